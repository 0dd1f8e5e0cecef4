"""Raw text files to sentences and documents, one line at a time.

A file holds one sentence or paragraph a line; a blank line, or the end of the file, ends a
document. Lines with several sentences are split, so plain prose serves as well.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bert_rt.errors import InputError

__all__ = ["MAX_LINE_BYTES", "read_documents", "read_lines", "split_sentences"]

# No paragraph is as long; a file that is no text at all often has no line ends.
MAX_LINE_BYTES = 1 << 24

# The end of a sentence: a full stop and what may close behind it, then what opens the next one.
_BOUNDARY = re.compile(r"[.!?]+[\"')\]\u2019\u201d]*\s+(?=[\"'(\[\u2018\u201c]*(\w))")
# What looks like an end and is none: titles, initials and abbreviations that names follow.
_ABBREVIATION = re.compile(
    r"(?:^|[^\w.])(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mr|Mrs|Ms|Messrs|Mme|Mlle|Dr|Prof|St|Sr|Jr|Rev|Hon"
    r"|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Pres|Mt|Ft|No|Nos|vs|cf|al|ca|approx|Jan|Feb|Mar|Apr|Aug"
    r"|Sept|Oct|Nov|Dec)$"
)
_ABBREVIATION_CHARS = 12


def split_sentences(line: str) -> list[str]:
    """Split a line into sentences by its punctuation.

    A rule for European languages, of the kind that needs no model: a sentence ends at ".", "!" or
    "?" before white space and something other than a small letter, unless an abbreviation stands
    before a lone ".". Text without such ends stays in one piece.

    Args:
        line: Any text.

    Returns:
        Sentences that are not empty, each with single spaces for all its white space; all
        together hold every other character of the line.
    """
    line = " ".join(line.split())
    sentences = []
    start = 0
    for match in _BOUNDARY.finditer(line):
        if match[1].islower():
            continue
        head = line[max(start, match.start() - _ABBREVIATION_CHARS) : match.start()]
        if line.startswith(". ", match.start()) and _ABBREVIATION.search(head):
            continue
        sentences.append(line[start : match.end()].rstrip())
        start = match.end()
    if start < len(line):
        sentences.append(line[start:])
    return sentences


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
