"""Rows of TSV, CSV and JSON Lines, with their lines in the file.

TSV is read as GLUE and most data sets write it: a tab ends a field, a newline a row, and quotes
are only characters. Where the first line quotes all its names, a CSV writer wrote the file, and
quotes are read as in CSV: as RFC 4180 says. The first line of both names the columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from bert_rt.errors import InputError
from bert_rt.support.strict_json import parse_json

__all__ = ["READERS", "Row"]

Row: TypeAlias = Mapping[str, Any] | str
"""A row's fields by column; or what is wrong with the row."""

_MAX_LINE_BYTES = 2**26
_QUOTES_ADVICE = "; quotes are read where the first line has them too, and in .csv"


def _read_tsv(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines, which takes a form feed or a Unicode separator inside a text for a line's end.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header = next((line for line in lines if line), "").split("\t")
    if all(len(name) > 2 and name[0] == name[-1] == '"' for name in header):
        return _with_header(file, _csv_rows(file, text, "\t"))
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, 1) if line)
    return _with_header(file, rows)


def _read_csv(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    return _with_header(file, _csv_rows(file, text, ","))


def _csv_rows(file: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{file}, line {line}: is not valid CSV: {error}") from None


def _with_header(file: Path, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, Row]]:
    line, header = next(rows, (1, []))
    if len(set(header)) != len(header):
        raise InputError(f"{file}, line {line}: got a column twice in {header}, want unique names")
    for line, row in rows:
        if len(row) == len(header):
            yield line, dict(zip(header, row, strict=True))
        else:
            message = f"got {len(row)} fields, want {len(header)}, as many as the first line has"
            # In TSV without quotes, a field that opens one was cut at a tab or line end within it.
            is_cut = any(field.startswith('"') and not field.endswith('"') for field in row)
            yield line, message + (_QUOTES_ADVICE if is_cut else "")


def _read_jsonl(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _json_row(line)


def _json_row(line: str) -> Row:
    try:
        row = parse_json(line.encode(), max_bytes=_MAX_LINE_BYTES)
    except ValueError as error:
        return f"is not valid JSON: {error}"
    return row if isinstance(row, dict) else f"got {type(row).__name__}, want an object"


READERS: Mapping[str, Callable[[Path, str], Iterator[tuple[int, Row]]]] = {
    "tsv": _read_tsv,
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "json": _read_jsonl,
}
"""What reads a file's text, by the end of its name."""
