"""The journal of a run: what it is of, and how far it has come. It lies beside the output.

The first line says what the run is of, by hash; each later one how many rows are done and how many
bytes of the output hold their results. A line is written once these bytes are on the disk, so that
after a crash the output is cut back to the last line and nothing is lost or comes twice.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from runtime.batch.parts import part_of

__all__ = ["Done", "Journal", "journal_of"]

_FORMAT = "bert-rt batch journal, version 1"
_NAME = ".journal"


def journal_of(output: str) -> Path:
    """Return where the journal of an output lies."""
    return Path(output + _NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How far a run has come.

    Attributes:
        rows: Rows that are done, the bad ones included.
        bad: How many of them were bad.
        tokens: Tokens that the model read.
        output: Bytes of the output.
        errors: Bytes of the file of bad rows.
        input: SHA-256 of the rows that are done, where the input is a pipe; else "".
        complete: Whether these are all rows.
    """

    rows: int = 0
    bad: int = 0
    tokens: int = 0
    output: int = 0
    errors: int = 0
    input: str = ""
    complete: bool = False


class Journal:
    """The journal of one output, which is locked while it is open.

    Attributes:
        done: How far the run has come.
    """

    def __init__(self, output: str, run: Mapping[str, Any]) -> None:
        """Open the journal of a run that goes on, or begin one.

        Args:
            output: The output's name.
            run: What the run is of: plain JSON values by name.

        Raises:
            InputError: The output is another run's or no run's, or another process writes it.
            OSError: The journal cannot be read or written.
        """
        self._path = path = journal_of(output)
        if not path.exists() or not path.stat().st_size:
            _refuse_leftovers(output, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = io.FileIO(descriptor, "r+")
        try:
            _lock(self._file.fileno(), output)
            self.done = self._read(output, {"format": _FORMAT, **run})
        except BaseException:
            self._file.close()
            raise

    def _read(self, output: str, run: Mapping[str, Any]) -> Done:
        data = self._file.read()
        # A line that a crash cut off was not written.
        whole = data[: data.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        self._file.seek(len(whole))
        if whole.count(b"\n") < 2:
            # Nothing is done yet: a run with other options may begin in its place.
            self._file.truncate(0)
            self._file.seek(0)
            self._append(run)
            return Done()
        first, *later = whole.splitlines()
        try:
            before = json.loads(first)
            done = Done(**json.loads(later[-1]))
        except (ValueError, TypeError):
            raise InputError(f"{self._path}: is no journal that can be read; {_ADVICE}") from None
        _compare(self._path, before, run)
        if done.complete and not (Path(output).exists() or part_of(output).exists()):
            raise InputError(
                f"{output}: is gone, but {self._path} says that it was complete; {_ADVICE}"
            )
        return done

    def commit(self, done: Done) -> None:
        """Write how far the run has come; what it says must be on the disk by now.

        Args:
            done: The rows and bytes.

        Raises:
            OSError: It cannot be written.
        """
        self._append(asdict(done))
        self.done = done

    def _append(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, sort_keys=True).encode() + b"\n"
        start = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(start)
                self._file.seek(start)
            error.filename = os.fspath(self._path)
            raise

    def close(self) -> None:
        """Close and unlock it; remove it where nothing is done."""
        if not self.done.rows and not self.done.complete:
            self._path.unlink(missing_ok=True)
        self._file.close()


_ADVICE = "remove it and the output to begin anew, or name another output"


def _refuse_leftovers(output: str, journal: Path) -> None:
    for path in (Path(output), part_of(output)):
        if path.exists():
            raise InputError(
                f"{path}: exists, but has no {journal.name} beside it, so that it is no unfinished "
                "run of this command; remove it or name another output"
            )


def _compare(path: Path, before: Any, run: Mapping[str, Any]) -> None:
    """Refuse the journal of another run, naming the first thing that is another."""
    if not isinstance(before, dict):
        raise InputError(f"{path}: is no journal that can be read; {_ADVICE}")
    for name in dict.fromkeys([*run, *before]):
        if before.get(name) != run.get(name):
            got, want = (json.dumps(it.get(name))[:300] for it in (run, before))
            raise InputError(
                f"{path}: is the journal of another run: {name}: got {got}, want {want} as when it "
                f"began; {_ADVICE}"
            )


def _lock(descriptor: int, output: str) -> None:
    """Keep other processes from writing the same output, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # there is none on Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{output}: another process is writing it") from None
    except OSError:
        pass  # Some file systems have no locks.
