"""How a row of a table becomes a task's input, and a result the fields of a row.

A task describes it once, as a RowForm; a task that says nothing takes one column of text.
"""

from __future__ import annotations

import dataclasses
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from bert_rt.errors import InputError
from bert_rt.support.flags import flag, known_flags

__all__ = [
    "ALTERNATIVES",
    "AnyRows",
    "ColumnsError",
    "NoQuestions",
    "RowForm",
    "TextColumn",
    "check_columns",
    "refuse_columns",
]

ALTERNATIVES = "alternatives"
"""The field that holds further results of the same input, where there are any."""

_MAX_LISTED = 10


class ColumnsError(InputError):
    """A table or a row has a column missing; the message says which ones it has."""


@dataclass(frozen=True)
class NoQuestions:
    """What a user may ask of a task that has no options of its own."""


class RowForm(ABC):
    """The rows of a task. Implementations are stateless.

    Attributes:
        columns_class: Which columns hold what: a dataclass; each field is a flag.
        asked_class: The fields of the task's own options that a user may set, likewise.
        names: The fields of a result, in order, without ALTERNATIVES.
    """

    columns_class: ClassVar[type[Any]]
    asked_class: ClassVar[type[Any]] = NoQuestions
    names: ClassVar[tuple[str, ...]]

    def make_columns(self, given: Mapping[str, Any], task: str) -> Any:
        """Make the columns of flags.

        Args:
            given: Fields of columns_class that were given.
            task: The task's name, for messages.

        Returns:
            Columns of columns_class.

        Raises:
            ConfigError: A field is none of this task's.
        """
        return self.columns_class(**known_flags(given, self.columns_class, f"a row of {task}"))

    def make_asked(self, given: Mapping[str, Any], task: str) -> dict[str, Any]:
        """Return the fields of the task's options that were given; raises as make_columns."""
        return known_flags(given, self.asked_class, f"a {task} model")

    @abstractmethod
    def required(self, names: Collection[str], columns: Any) -> list[str]:
        """Return the columns that item reads.

        Args:
            names: The columns that there are.
            columns: Of columns_class.

        Returns:
            Their names.

        Raises:
            ColumnsError: One of them is missing.
        """

    @abstractmethod
    def item(self, row: Mapping[str, Any], columns: Any) -> Any:
        """Return what Task.check_input takes of a row that has the required columns."""

    @abstractmethod
    def fields(self, result: Any) -> dict[str, Any]:
        """Return a result as plain JSON values by name, with ALTERNATIVES where there are any."""

    def read_document(self, file: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Read a JSON document of the task's own form, which is no table.

        Args:
            file: Its file, for messages.
            text: All of it.

        Returns:
            Rows with their places in the document.

        Raises:
            InputError: It has another form, or the task has none.
        """
        del text
        raise InputError(f"{file}: got a JSON document, want JSON Lines, one object a line")


@dataclass(frozen=True, kw_only=True)
class TextColumn:
    """The column of a task that takes one text.

    Attributes:
        text_column: The text.
    """

    text_column: str = field(default="text", metadata=flag(metavar="NAME", help="left out: text"))


class AnyRows(RowForm):
    """The rows of a task that says nothing of them: a text in, the result as it is out."""

    columns_class = TextColumn
    names: ClassVar[tuple[str, ...]] = ("result",)

    def required(self, names: Collection[str], columns: TextColumn) -> list[str]:
        """Return the column of the text; raises ColumnsError where it is missing."""
        return check_columns(names, [columns.text_column])

    def item(self, row: Mapping[str, Any], columns: TextColumn) -> Any:
        """Return the text."""
        return row[columns.text_column]

    def fields(self, result: Any) -> dict[str, Any]:
        """Return the result; a dataclass as a dictionary."""
        is_data = dataclasses.is_dataclass(result) and not isinstance(result, type)
        return {"result": dataclasses.asdict(result) if is_data else result}


def check_columns(names: Collection[str], required: list[str]) -> list[str]:
    """Refuse rows without a column.

    Args:
        names: The columns that there are.
        required: Those that there must be.

    Returns:
        The latter.

    Raises:
        ColumnsError: One is missing.
    """
    for name in required:
        if name not in names:
            refuse_columns(names, f"{name!r} among them")
    return required


def refuse_columns(names: Collection[str], want: str) -> NoReturn:
    """Raise ColumnsError for columns that are not as wanted."""
    shown = ", ".join(map(reprlib.repr, list(names)[:_MAX_LISTED]))
    more = ", ..." if len(names) > _MAX_LISTED else ""
    raise ColumnsError(f"got the columns {shown}{more}; want {want}")
