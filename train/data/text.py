"""Raw text files to sentences and documents, one line at a time.

A file holds one sentence or paragraph a line; a blank line, or the end of the file, ends a
document. Lines with several sentences are split, so plain prose serves as well.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bert_rt.errors import InputError
from bert_rt.text.sentences import split_sentences

__all__ = ["MAX_LINE_BYTES", "read_documents", "read_lines"]

# No paragraph is as long; a file that is no text at all often has no line ends.
MAX_LINE_BYTES = 1 << 24


def read_lines(file: Path) -> Iterator[str]:
    """Read a text file, however large, line by line.

    Args:
        file: UTF-8, with or without byte order mark; gzip where the name ends in .gz.

    Yields:
        The lines, without their ends.

    Raises:
        InputError: The file cannot be read, is not UTF-8, or has a line of more than
            MAX_LINE_BYTES; the message names file, line and byte.
    """
    number = position = 0
    try:
        with _open(file) as stream:
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{file}, line {number}: got more than {MAX_LINE_BYTES} bytes without a "
                        "line end, want lines of text"
                    )
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                position += len(raw)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}, line {number}: not UTF-8 at byte {position + error.start}: "
            f"0x{error.object[error.start]:02x}"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"{file}: named .gz, but not a whole gzip file after line {number}: {error}"
        ) from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error


def _open(file: Path) -> BinaryIO:
    if file.suffix == ".gz":
        return cast("BinaryIO", gzip.open(file, "rb"))
    return file.open("rb")


def read_documents(files: Iterable[Path], *, max_sentences: int) -> Iterator[list[str]]:
    """Read files as documents of sentences.

    Args:
        files: Text files, read one behind the other; none continues the one before it.
        max_sentences: Longer documents are cut into pieces of this many sentences, so that
            memory stays bounded where a file has no blank line.

    Yields:
        The sentences of a document, at least one; split as split_sentences does.

    Raises:
        InputError: As in read_lines.
    """
    for file in files:
        document: list[str] = []
        for line in read_lines(file):
            sentences = split_sentences(line)
            document += sentences
            while len(document) >= max_sentences:
                yield document[:max_sentences]
                document = document[max_sentences:]
            if not sentences and document:
                yield document
                document = []
        if document:
            yield document
