"""Lines on stdin, taken as they come, for the commands that answer a stream of them."""

from __future__ import annotations

import codecs
import os
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.strict_json import parse_json

__all__ = ["at_line", "batches", "parse_line", "parse_lines", "parse_text_line"]

# Lines answered together at most, and the longest line: a context of the greatest length, escaped.
_MAX_LINES = 512
_MAX_LINE_BYTES = 2**26


def batches(descriptor: int) -> Iterator[list[tuple[int, bytes]]]:
    """Read numbered lines as they arrive: what is there, without waiting for more.

    A program that sends one question and waits for its answer gets it; a file is answered in
    large batches.

    Args:
        descriptor: Of an open file, pipe or terminal.

    Yields:
        Lines with their numbers, from 1; the first without a byte order mark.

    Raises:
        InputError: A line is too long.
    """
    number = 0
    rest = b""
    data = b"\n"
    while data:
        data = os.read(descriptor, 2**20)
        *lines, rest = (rest + data).split(b"\n")
        while data and len(lines) < _MAX_LINES and _is_ready(descriptor):
            data = os.read(descriptor, 2**20)
            *more, rest = (rest + data).split(b"\n")
            lines += more
        if len(rest) > _MAX_LINE_BYTES:
            raise InputError(
                f"line {number + len(lines) + 1}: got more than {_MAX_LINE_BYTES} bytes, want less"
            )
        if not data and rest:  # the last line may end without a newline
            lines.append(rest)
        if not number and lines:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        yield [(number + i, line) for i, line in enumerate(lines, start=1)]
        number += len(lines)


def _is_ready(descriptor: int) -> bool:
    # Windows selects sockets only: there each read is answered by itself. Elsewhere the next read
    # raises what is wrong with the descriptor.
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except OSError:
        return False


def parse_lines(
    lines: Sequence[tuple[int, bytes]], parse: Callable[[bytes], dict[str, Any]]
) -> tuple[list[tuple[int, dict[str, Any]]], InputError | None]:
    """Parse the lines before the first bad one.

    Args:
        lines: Numbered lines; empty ones are left out.
        parse: Makes an entry of a line, or raises InputError.

    Returns:
        The numbered entries, and the error of the bad line, if any.
    """
    entries: list[tuple[int, dict[str, Any]]] = []
    number = 0
    try:
        for number, line in lines:
            if line.strip():
                entries.append((number, parse(line)))
    except InputError as error:
        return entries, at_line(number, error)
    return entries, None


def parse_line(line: bytes, fields: Sequence[str]) -> dict[str, Any]:
    """Parse a line of JSON.

    Args:
        line: The line.
        fields: Names that must be there.

    Returns:
        The object.

    Raises:
        InputError: It is no JSON, no object, or a field is missing.
    """
    try:
        entry = parse_json(line, max_bytes=_MAX_LINE_BYTES)
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}") from None
    if not isinstance(entry, dict):
        wanted = ", ".join(f'"{name}"' for name in fields)
        raise InputError(f"got {type(entry).__name__}, want an object {{{wanted}}}")
    for name in fields:
        if name not in entry:
            raise InputError(f"{name}: is missing")
    return entry


def parse_text_line(line: bytes) -> dict[str, Any]:
    """Return {"text": the line}; raises InputError where it is not UTF-8."""
    try:
        return {"text": line.removesuffix(b"\r").decode("utf-8")}
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 at byte {error.start}") from None


def at_line(number: int, error: InputError) -> InputError:
    """Return the same error with its line on stdin in front."""
    return type(error)(f"stdin, line {number}: {error}")
