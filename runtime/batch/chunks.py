"""Rows -> chunks of checked inputs. Where a chunk ends depends on its rows alone.

So a run that goes on behind a chunk makes the same chunks as one that was never interrupted, and
results that depend on what is computed together (ONNX Runtime's last digits) come out the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bert_rt.errors import ConfigError, InputError
from bert_rt.support.strict_json import to_plain
from bert_rt.tasks.base import Task
from bert_rt.tasks.forms.rows import ALTERNATIVES, ColumnsError, RowForm
from runtime.batch.sources import Row

__all__ = ["Chunk", "Reading", "make_chunks"]

# A chunk ends with whichever comes first: a session computes as much together, and memory stays
# bounded where rows have long fields that nobody reads.
_MAX_ROWS = 512
_MAX_CHARS = 2**19
_MAX_BYTES = 2**24

_ID = "id"
_LINE = "line"
_FILE = "file"


@dataclass(slots=True)
class Chunk:
    """Rows that are computed together.

    Attributes:
        rows: All of them, the bad ones included.
        labels: What names each row in the output.
        items: For every row what its task computes, or what is wrong with it.
        input_hash: Of a pipe, the hash of its rows up to the last one here.
    """

    rows: list[Row] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    items: list[Any | InputError] = field(default_factory=list)
    input_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How rows are read.

    Attributes:
        task: What they are for.
        form: The task's form of rows.
        columns: Which columns hold what, of form.columns_class.
        kept: Columns to copy into the output; None for "id", or the line where a row has none.
        has_file: Whether a row without id is named by its file, too.
        is_table: Whether the output is a table, whose rows all have the same columns.
    """

    task: Task[Any, Any, Any]
    form: RowForm
    columns: Any
    kept: Sequence[str] | None
    has_file: bool
    is_table: bool

    def needed(self, names: Iterable[str]) -> Sequence[str]:
        """Return the columns of a table that are read; raises ColumnsError where one is missing."""
        names = list(names)
        required = self.form.required(names, self.columns)
        if self.kept is None:
            return [*dict.fromkeys([*required, *({_ID} & {*names})])]
        for name in self.kept:
            if name not in names:
                raise ColumnsError(f"keep: got {name!r}, want one of {', '.join(names)}")
        return [*dict.fromkeys([*required, *self.kept])]

    def output_columns(self, *, has_alternatives: bool) -> list[str]:
        """Return the columns of a table of results.

        Args:
            has_alternatives: Whether several results were asked for.

        Returns:
            Those that name a row, and those of a result.

        Raises:
            ConfigError: Two of them have one name.
        """
        results = [*self.form.names, *([ALTERNATIVES] if has_alternatives else [])]
        for name in self.kept or ():
            if name in results:
                raise ConfigError(
                    f"keep: got {name!r}, which is a column of the results ({', '.join(results)})"
                )
        labels = [_ID, *([_FILE] if self.has_file else []), _LINE]
        return [*(labels if self.kept is None else self.kept), *results]

    def read(self, row: Row) -> tuple[dict[str, Any], Any]:
        """Parse and check a row.

        Args:
            row: The row.

        Returns:
            What names it, and its input.

        Raises:
            InputError: It cannot be used.
        """
        fields = row.fields()
        self.form.required(fields.keys(), self.columns)
        item = self.task.check_input(self.form.item(fields, self.columns))
        return self._label(row, fields), item

    def _label(self, row: Row, fields: Mapping[str, Any]) -> dict[str, Any]:
        names = [_ID] if self.kept is None else self.kept
        label = {name: _plain(name, fields[name]) for name in names if name in fields}
        if self.kept is not None:
            return {name: label.get(name) for name in names}
        if not label or self.is_table:
            if self.has_file:
                label[_FILE] = row.file
            label[_LINE] = row.number
        return label


def make_chunks(rows: Iterable[Row], reading: Reading) -> Iterator[Chunk]:
    """Put rows together.

    Args:
        rows: In order.
        reading: How they are read.

    Yields:
        Chunks, none of them empty.
    """
    chunk = Chunk()
    num_chars = num_bytes = 0
    for row in rows:
        label: dict[str, Any] = {}
        item: Any
        try:
            label, item = reading.read(row)
            num_chars += reading.task.num_chars(item)
        except InputError as error:
            item = error
        chunk.rows.append(row)
        chunk.labels.append(label)
        chunk.items.append(item)
        num_bytes += row.size
        if len(chunk.rows) >= _MAX_ROWS or num_chars >= _MAX_CHARS or num_bytes >= _MAX_BYTES:
            yield chunk
            chunk = Chunk()
            num_chars = num_bytes = 0
    if chunk.rows:
        yield chunk


def _plain(name: str, value: Any) -> Any:
    """Return a value that goes into the output; raises InputError where JSON cannot hold it."""
    if hasattr(value, "isoformat"):  # a date or time of Parquet
        return value.isoformat()
    try:
        return to_plain(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
