"""Results as the bytes of a file: lines of JSON, or CSV, packed or not, one chunk at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.errors import ConfigError
from bert_rt.support.strict_json import readable_json
from runtime.batch.streams import STDIN, compress, split_name

__all__ = ["Encoder", "encode_lines", "is_table"]

_UNWRITABLE = ("tsv", "parquet")


def is_table(output: str) -> bool:
    """Whether an output is CSV, by its name; raises ConfigError for what cannot be written."""
    kind, _ = split_name(output) if output != STDIN else ("", "")
    if kind in _UNWRITABLE:
        raise ConfigError(
            f"output: got a name that ends in {kind!r}, want .csv, or any other for JSON Lines; "
            "or these with .gz or .zst"
        )
    return kind == "csv"


class Encoder:
    """Makes bytes of the results of a chunk."""

    def __init__(self, output: str, columns: Sequence[str]) -> None:
        """Choose the format by the name of the output.

        Args:
            output: The file's name.
            columns: Those of a table.
        """
        self._columns = columns
        self._is_table = is_table(output)
        self._compression = split_name(output)[1]

    def head(self) -> bytes:
        """Return what stands before all rows: the names of a table's columns."""
        if not self._is_table:
            return b""
        return compress(_table([self._columns]), self._compression)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the bytes of some rows, always the same for the same rows."""
        if not self._is_table:
            return encode_lines(rows, self._compression)
        cells = [[_cell(row.get(name)) for name in self._columns] for row in rows]
        return compress(_table(cells), self._compression)


def encode_lines(rows: Sequence[Mapping[str, Any]], compression: str = "") -> bytes:
    """Return rows as lines of JSON in UTF-8."""
    lines = "".join(readable_json(row) + "\n" for row in rows)
    return compress(lines.encode("utf-8"), compression)


def _cell(value: Any) -> Any:
    return readable_json(value) if isinstance(value, dict | list | tuple | bool) else value


def _table(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8")
