"""Writing files and directories whole or not at all, and reading text that people made.

Everything is written beside its target under a hidden name, flushed to the disk and then renamed:
a crash, a full disk or Ctrl-C leaves the target as it was. Failures are plain OSError, which the
programs print as one line; callers with a better name for them translate.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bert_rt.errors import InputError
from bert_rt.support.strict_json import readable_json

__all__ = [
    "DirectoryChangedError",
    "DirectoryState",
    "atomic_directory",
    "atomic_file",
    "atomic_write_bytes",
    "atomic_write_json",
    "check_replaceable",
    "directory_state",
    "read_text",
    "sync_directory",
]


_flock: Callable[[int], None] | None = None
with contextlib.suppress(ImportError):  # there is none on Windows
    import fcntl

    def _flock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


class DirectoryChangedError(FileExistsError):
    """A directory is another one than when the work began."""


@dataclass(frozen=True, slots=True)
class DirectoryState:
    """What directory_state found.

    Attributes:
        identity: Device, file number and time of the last change; None for no directory.
    """

    identity: tuple[int, int, int] | None = None


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 file, plain or .gz.

    Args:
        path: The file; gzip where the name ends in .gz.

    Returns:
        Its text with line ends as they are, and without a byte order mark.

    Raises:
        InputError: It cannot be read, is no whole gzip file, or is not UTF-8.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = _decompress(file, data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise InputError(
            f"{file}: not UTF-8 at byte {error.start}, in line {line}"
            f"{': it begins like UTF-16' if is_utf16 else ''}"
        ) from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a file so that a reader sees the old content or the new one, never a mixture.

    Missing parent directories are made. A symbolic link keeps pointing where it points: what it
    names is replaced. Something that exists and is no regular file (a terminal, a pipe,
    /dev/stdout) is written to directly, since renaming over it would destroy it.

    Args:
        path: The file to write.
        data: Its whole content.

    Raises:
        OSError: The file cannot be written (disk full, no permission, path is a directory); no
            half-written file stays.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Do as atomic_write_bytes does, for content that is written piece by piece.

    Args:
        path: The file to write.

    Yields:
        A file, open for writing, which gets its name once all went well.

    Raises:
        OSError: As in atomic_write_bytes.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:
            yield file
        return
    made = _make_directory(target.parent)
    temporary = _sibling(target, "tmp")
    try:
        # Mode "x" on a random name: never follows or overwrites what somebody else put there.
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        _remove_empty(made)
        _name_target(error, target)
        raise
    sync_directory(target.parent)


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON file in UTF-8, whole or not at all, the same bytes for the same value.

    Args:
        path: The file to write.
        value: What json.dumps takes, without NaN or infinities.

    Raises:
        OSError: As in atomic_write_bytes.
    """
    text = readable_json(value, indent=2, sort_keys=True, allow_nan=False)
    atomic_write_bytes(path, (text + "\n").encode("utf-8"))


@contextlib.contextmanager
def atomic_directory(
    path: str | os.PathLike[str],
    *,
    can_replace: Callable[[Path], bool] = lambda _: False,
    unchanged_since: DirectoryState | None = None,
) -> Iterator[Path]:
    """Fill a directory that appears under its name only once it is complete.

    An absent or empty target is always filled. What stood there before is removed only after the
    new directory has its name; a crash in between leaves it beside the target, as `.NAME.*.old`.

    Args:
        path: The directory to make; missing parents are made too.
        can_replace: Asked about a target that exists and is not empty: whether it may be replaced.
        unchanged_since: What directory_state found before the work began; None where it does not
            matter who else has written there since.

    Yields:
        A temporary directory beside the target, on the same file system, to write into.

    Raises:
        OSError: A file cannot be written (disk full, no permission), or the target exists and
            may not be replaced (FileExistsError, raised before anything is written) or is another
            one than at the beginning (DirectoryChangedError).
    """
    target = Path(os.path.realpath(path))
    check_replaceable(target, can_replace=can_replace)
    made = _make_directory(target.parent)
    temporary = _sibling(target, "tmp")
    try:
        temporary.mkdir()
        yield temporary
        _sync_tree(temporary)
        with _locked(target.parent):
            # Asked again: writing may have taken an hour, and somebody may have used the name.
            if unchanged_since is not None and directory_state(target) != unchanged_since:
                raise DirectoryChangedError(f"{target}: was written by another process meanwhile")
            check_replaceable(target, can_replace=can_replace)
            _swap_in(temporary, target)
    except BaseException as error:
        _remove_tree(temporary)
        _remove_empty(made)
        _name_target(error, target)
        raise
    sync_directory(target.parent)


def check_replaceable(
    path: str | os.PathLike[str], *, can_replace: Callable[[Path], bool] = lambda _: False
) -> None:
    """Ask before hours of work what atomic_directory will ask after them.

    Args:
        path: The directory that shall be made.
        can_replace: As in atomic_directory.

    Raises:
        OSError: The target exists and may not be replaced (FileExistsError), or is no directory.
    """
    target = Path(os.path.realpath(path))
    try:
        is_empty = next(target.iterdir(), None) is None
    except FileNotFoundError:
        return
    if not is_empty and not can_replace(target):
        raise FileExistsError(f"{target}: exists, is not empty and is not ours to replace")


def directory_state(path: str | os.PathLike[str]) -> DirectoryState:
    """Tell one state of a directory from a later one, for atomic_directory.

    Args:
        path: The directory, which may be absent.

    Returns:
        A value that is another one once the directory was replaced, or an entry came or went.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return DirectoryState()
    return DirectoryState((status.st_dev, status.st_ino, status.st_mtime_ns))


def sync_directory(directory: Path) -> None:
    """Put renames inside a directory onto the disk, where the system can."""
    # A rename lasts through a power cut only once its directory is on the disk. Some systems
    # cannot open or flush a directory; by now the content is safe, so that is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes from swapping directories in here, where the system has such locks."""
    if _flock is None:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        # Some file systems have no locks; there the swap is as safe as two renames are.
        with contextlib.suppress(OSError):
            _flock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _swap_in(temporary: Path, target: Path) -> None:
    """Give the temporary directory its name; put the old one back where that fails."""
    if not target.exists():
        os.rename(temporary, target)
        return
    retired = _sibling(target, "old")
    try:
        os.rename(target, retired)
        os.rename(temporary, target)
        _remove_tree(retired)
    except BaseException:
        # Ctrl-C, too, which may come between any two of them.
        if retired.exists() and not target.exists():
            os.rename(retired, target)
        _remove_tree(retired)
        raise


def _make_directory(directory: Path) -> list[Path]:
    """Make a directory and return those that were missing, the innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(directories: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for directory in directories:
            directory.rmdir()


def _name_target(error: BaseException, target: Path) -> None:
    # "No space left on device" comes without a name, or with the temporary one that is gone by
    # the time somebody reads it.
    if isinstance(error, OSError) and error.errno is not None:
        error.filename = os.fspath(target)
        if error.filename2 is not None:
            del error.filename2


def _sibling(target: Path, kind: str) -> Path:
    # Cut, so that a name of the longest length that a file system takes still has a sibling.
    return target.with_name(f".{target.name[:40]}.{os.urandom(6).hex()}.{kind}")


def _sync_tree(directory: Path) -> None:
    for entry in directory.iterdir():
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            _sync_tree(entry)
        elif stat.S_ISREG(mode):
            # Windows flushes only what may be written; elsewhere a file may be read-only.
            with open(entry, "r+b" if os.name == "nt" else "rb") as file:
                os.fsync(file.fileno())
    sync_directory(directory)


# Imported where they are used: whoever loads an artifact would wait for them.


def _decompress(file: Path, data: bytes) -> bytes:
    import gzip
    import zlib

    try:
        return gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: named .gz, but not a whole gzip file: {error}") from error


def _remove_tree(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
