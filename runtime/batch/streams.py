"""Files as streams of bytes: plain, .gz or .zst, or standard input; and what they hold by hash."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from bert_rt.errors import InputError

__all__ = ["COMPRESSIONS", "STDIN", "compress", "digest", "open_stream", "split_name"]

STDIN = "-"
COMPRESSIONS = ("gz", "zst")


def split_name(name: str) -> tuple[str, str]:
    """Split the end of a file's name.

    Args:
        name: Such as "rows.csv.gz".

    Returns:
        The kind of the file and its compression, such as "csv" and "gz"; "" for none.
    """
    suffixes = [suffix[1:].lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return suffixes[-1] if suffixes else "", compression


@contextlib.contextmanager
def open_stream(name: str) -> Iterator[IO[bytes]]:
    """Open a file to read what it holds, unpacked.

    Args:
        name: The file, or "-" for standard input.

    Yields:
        A buffered stream.

    Raises:
        InputError: It cannot be read, or is no whole file of the compression that it is named by.
    """
    _, compression = split_name(name)
    try:
        if name == STDIN:
            yield sys.stdin.buffer
        elif compression == "gz":
            with gzip.open(name, "rb") as unpacked:
                yield cast("IO[bytes]", unpacked)
        elif compression == "zst":
            with open(name, "rb") as packed, _zstandard(packed) as stream:
                yield stream
        else:
            with open(name, "rb") as stream:
                yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error, _DamagedError) as error:
        message = f"{name}: named .{compression}, but not a whole file of that kind: {error}"
        raise InputError(message) from error
    except OSError as error:
        if error.filename != name:
            raise
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error


def compress(data: bytes, compression: str) -> bytes:
    """Pack bytes as a member of a file: members may stand one behind the other.

    Args:
        data: The bytes.
        compression: "gz", "zst" or "".

    Returns:
        The packed bytes, always the same for the same data.
    """
    if not data or not compression:
        return data
    if compression == "gz":
        return gzip.compress(data, compresslevel=6, mtime=0)
    import pyarrow as pa  # an extra

    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


def digest(name: str) -> str:
    """Return the SHA-256 of a file as it lies on the disk; raises InputError."""
    try:
        with open(name, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error


class _DamagedError(Exception):
    """A compressed stream is damaged or cut off."""


class _Unpacked(io.RawIOBase):
    """A stream of Arrow as one of Python."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, ValueError) as error:  # Arrow's errors are of these
            raise _DamagedError(" ".join(str(error).split())) from None
        buffer[: len(data)] = data
        return len(data)


def _zstandard(packed: IO[bytes]) -> io.BufferedReader:
    import pyarrow as pa  # an extra

    stream = pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd")
    return io.BufferedReader(_Unpacked(stream), buffer_size=2**20)
