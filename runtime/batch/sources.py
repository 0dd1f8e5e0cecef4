"""Rows of files, one after the other in bounded memory, each with its place.

Rows are read lazily: one that is skipped is not parsed. What is wrong with one row is said by that
row; what is wrong with a file is an error at once.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from bert_rt.errors import InputError
from bert_rt.support.strict_json import parse_foreign
from bert_rt.tasks.forms.rows import RowForm
from runtime.batch.streams import STDIN, open_stream, split_name

__all__ = ["FORMATS", "CheckColumns", "Row", "describe", "read_rows"]

CheckColumns: TypeAlias = Callable[[Collection[str]], Sequence[str]]
"""Returns those columns of a table that are read; raises InputError where one is missing."""

_MAX_LINE_BYTES = 2**26
_PARQUET_ROWS = 512


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file.

    Attributes:
        file: The file's name.
        number: Its line, from 1; of formats without lines, which row it is.
        place: The same for messages, such as "line 3".
        content: A line of JSON, or the fields; or what is wrong with the row.
        size: About how many bytes it takes in memory.
    """

    file: str
    number: int
    place: str
    content: bytes | Mapping[str, Any] | InputError
    size: int

    def fields(self) -> Mapping[str, Any]:
        """Return the row's fields; raises InputError for what is wrong with it."""
        if isinstance(self.content, InputError):
            raise self.content
        if not isinstance(self.content, bytes):
            return self.content
        try:
            fields = parse_foreign(self.content, max_bytes=_MAX_LINE_BYTES)
        except ValueError as error:
            raise InputError(f"is not valid JSON: {error}") from None
        if not isinstance(fields, dict):
            raise InputError(f"got {type(fields).__name__}, want an object")
        return fields


def read_rows(
    name: str, format_name: str | None, form: RowForm, check: CheckColumns
) -> Iterator[Row]:
    """Read the rows of a file.

    Args:
        name: The file, or "-" for standard input.
        format_name: One of FORMATS; None for the one that the name says, and JSON Lines for
            standard input.
        form: The task's; reads JSON documents.
        check: Asked about the columns of a table before its first row.

    Yields:
        The rows in order.

    Raises:
        InputError: The file cannot be read, is no table of its format, or has a column missing.
    """
    kind = format_name or ("jsonl" if name == STDIN else split_name(name)[0])
    if kind not in FORMATS:
        known = ", ".join(f".{it}" for it in FORMATS)
        raise InputError(
            f"{name}: got a name that ends in {kind!r}, want {known}, one of these with .gz or "
            ".zst, or --format"
        )
    if kind == "parquet":
        yield from _read_parquet(name, check)
        return
    with open_stream(name) as stream:
        if kind == "json":
            yield from _read_json(name, stream, form)
        elif kind in _DELIMITERS:
            yield from _read_table(name, stream, _DELIMITERS[kind], check)
        else:
            yield from _read_lines(name, stream)


def _read_lines(name: str, stream: IO[bytes], first: bytes | None = None) -> Iterator[Row]:
    """Read lines of JSON; `first` is a first line that was read already."""
    number = 0
    line = stream.readline(_MAX_LINE_BYTES + 1) if first is None else first
    line = line.removeprefix(codecs.BOM_UTF8)
    while line:
        number += 1
        place = f"line {number}"
        if len(line) > _MAX_LINE_BYTES and not line.endswith(b"\n"):
            error = InputError(f"got more than {_MAX_LINE_BYTES} bytes, want less")
            while line and not line.endswith(b"\n"):
                line = stream.readline(_MAX_LINE_BYTES)
            yield Row(name, number, place, error, 0)
        elif not line.isspace():
            yield Row(name, number, place, line.rstrip(b"\r\n"), len(line))
        line = stream.readline(_MAX_LINE_BYTES + 1)


def _read_json(name: str, stream: IO[bytes], form: RowForm) -> Iterator[Row]:
    """Read a document of the task's own form, or lines of JSON."""
    first = stream.readline(_MAX_LINE_BYTES + 1)
    if _is_row(first):
        yield from _read_lines(name, stream, first)
        return
    data = first + stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}") from None
    del data, first
    rows = form.read_document(Path(name), text)
    for number, (place, fields) in enumerate(rows, start=1):
        yield Row(name, number, place, fields, 0)


def _is_row(line: bytes) -> bool:
    """Tell a first line that is a row from a document, or a part of one."""
    try:
        value = parse_foreign(line, max_bytes=_MAX_LINE_BYTES)
    except ValueError:
        return False
    return isinstance(value, dict) and not {"data", "paragraphs"} & value.keys()


def _read_table(name: str, stream: IO[bytes], delimiter: str, check: CheckColumns) -> Iterator[Row]:
    """Read CSV or TSV; the first line names the columns."""
    csv.field_size_limit(_MAX_LINE_BYTES)
    # Bytes that are not UTF-8 become lone surrogates, so that one bad row costs no other.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        # Quotes are only characters in TSV, as GLUE writes it, unless a CSV writer wrote the file.
        head = text.readline(_MAX_LINE_BYTES)
        names = head.rstrip("\r\n").split(delimiter)
        is_quoted = all(len(it) > 2 and it[0] == it[-1] == '"' for it in names)
        has_quotes = delimiter == "," or is_quoted
        quoting: Any = csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE
        lines = _chain(head, text)
        reader = csv.reader(lines, strict=True, delimiter=delimiter, quoting=quoting)
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise InputError(f"{name}, line 1: got a column twice in {header}, want unique names")
        try:
            check(header)
        except InputError as error:
            raise InputError(f"{name}, line 1: {error}") from None
        yield from _table_rows(name, reader, header)
    except csv.Error as error:
        raise InputError(f"{name}, line 1: is not valid CSV: {error}") from None
    finally:
        text.detach()


def _chain(head: str, text: io.TextIOWrapper) -> Iterator[str]:
    yield head
    # A piece at a time, where a line is longer than any row may be.
    yield from iter(lambda: text.readline(_MAX_LINE_BYTES), "")


def _table_rows(name: str, reader: Any, header: Sequence[str]) -> Iterator[Row]:
    while True:
        number = reader.line_num + 1
        content: Mapping[str, Any] | InputError
        try:
            row = next(reader, None)
        except csv.Error as error:
            row = [""]
            content = InputError(f"is not valid CSV: {error}")
        else:
            if row is None:
                return
            content = _table_fields(row, header)
        if row:
            yield Row(name, number, f"line {number}", content, sum(map(len, row)))


def _table_fields(row: Sequence[str], header: Sequence[str]) -> Mapping[str, Any] | InputError:
    if len(row) != len(header):
        return InputError(
            f"got {len(row)} fields, want {len(header)}, as many as the first line has"
        )
    if any(not it.isascii() and any("\udc80" <= char <= "\udcff" for char in it) for it in row):
        return InputError("is not UTF-8")
    return dict(zip(header, row, strict=True))


def _read_parquet(name: str, check: CheckColumns) -> Iterator[Row]:
    import pyarrow as pa  # an extra
    import pyarrow.parquet as pq

    if name == STDIN:
        raise InputError("stdin: got Parquet, which cannot be read from a pipe; want a file")
    try:
        # Opened here: an error of Arrow's would not say what is wrong as the system does.
        with open(name, "rb") as opened, pq.ParquetFile(opened) as file:
            columns = [*check(file.schema_arrow.names)]
            number = 0
            for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(name, number, f"row {number}", fields, _size(fields))
    except pa.ArrowException as error:
        message = " ".join(str(error).split())
        raise InputError(f"{name}: is not a Parquet file that can be read: {message}") from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None


def _size(fields: Mapping[str, Any]) -> int:
    return sum(len(value) for value in fields.values() if isinstance(value, str | bytes))


_DELIMITERS = {"csv": ",", "tsv": "\t"}
FORMATS = ("jsonl", "ndjson", "json", *_DELIMITERS, "parquet")
"""What may be read: JSON Lines under three names (the last for SQuAD files, too) and tables."""


def describe(row: Row) -> Any:
    """Return what a row holds, for a file of bad rows: its fields, or its line as text."""
    if isinstance(row.content, bytes):
        return row.content.decode("utf-8", errors="backslashreplace")
    if isinstance(row.content, InputError):
        return None
    return json.loads(json.dumps(row.content, default=str))
