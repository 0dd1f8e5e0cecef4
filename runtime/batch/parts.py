"""Files that grow by whole chunks and can be cut back to one: NAME.part until they are complete."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.files import sync_directory
from runtime.batch.streams import STDIN

__all__ = ["Growing", "PartFile", "Pipe", "is_pipe", "part_of"]

_PART = ".part"


def part_of(name: str) -> Path:
    """Return where a file is written until it is complete."""
    return Path(name + _PART)


def is_pipe(name: str) -> bool:
    """Whether a name is standard output or something that cannot be cut back: a pipe, a device."""
    if name == STDIN:
        return True
    try:
        return not stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return False


class Growing(ABC):
    """What chunks are written to.

    Attributes:
        size: Bytes so far.
    """

    size: int

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append bytes."""

    @abstractmethod
    def sync(self) -> None:
        """Put all bytes onto the disk."""

    @abstractmethod
    def close(self) -> None:
        """Close, and leave everything as it is."""


class Pipe(Growing):
    """Standard output, or a file that is a pipe or a device."""

    def __init__(self, name: str) -> None:
        """Open it.

        Args:
            name: The file, or "-".
        """
        self._is_opened = name != STDIN
        self._stream: Any = io.FileIO(name, "w") if self._is_opened else sys.stdout.buffer
        self.size = 0

    def write(self, data: bytes) -> None:
        """Write through."""
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]
        self._stream.flush()
        self.size += len(data)

    def sync(self) -> None:
        """Do nothing: every write went through."""

    def close(self) -> None:
        """Close what was opened here."""
        if self._is_opened:
            self._stream.close()


class PartFile(Growing):
    """A file beside its name, until it is complete."""

    def __init__(self, name: str, size: int) -> None:
        """Open the part and cut it back to what is known to be whole.

        Args:
            name: The file that it shall become.
            size: Bytes that are whole; 0 to begin.

        Raises:
            InputError: It has fewer bytes, so that some are lost.
            OSError: It cannot be written.
        """
        self._name = name
        self._part = part_of(name)
        with _named(self._part):
            # Not O_TRUNC: what is there is cut back only once its size is known.
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o666)
        self._file = io.FileIO(descriptor, "r+")
        length = os.fstat(descriptor).st_size
        if length < size:
            self._file.close()
            raise InputError(
                f"{self._part}: got {length} bytes, want at least the {size} that its journal says "
                "are written; remove the part and its journal to begin anew"
            )
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def write(self, data: bytes) -> None:
        """Append bytes; raises OSError, such as for a full disk, which names the part."""
        view = memoryview(data)
        with _named(self._part):
            while view:
                view = view[self._file.write(view) or 0 :]
        self.size += len(data)

    def sync(self) -> None:
        """Flush to the disk."""
        with _named(self._part):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close, and leave the part."""
        self._file.close()

    def remove(self) -> None:
        """Close, and remove the part."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name."""
        self._file.close()
        os.replace(self._part, self._name)
        sync_directory(self._part.parent)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror, os.fspath(path)) from error
