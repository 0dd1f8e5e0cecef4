"""Texts in rows, labelled or not: which columns hold them; and classes as rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from bert_rt.support.flags import flag
from bert_rt.tasks.forms.rows import ALTERNATIVES, RowForm, check_columns, refuse_columns
from bert_rt.types import Classification, TextInput

__all__ = ["ClassRows", "Columns", "TextColumns", "class_fields", "text_columns"]

_NAMES = ("label", "score", "index", "logit")
_TEXT_COLUMNS = ("sentence", "text")


@dataclass(frozen=True, kw_only=True)
class TextColumns:
    """Which columns of a file of texts hold what.

    Attributes:
        text_column: The text; None for "sentence" or "text", whichever the file has.
        text_pair_column: The second text of a pair; None where single texts are classified.
    """

    text_column: str | None = field(
        default=None, metadata=flag(metavar="NAME", help="left out: sentence or text")
    )
    text_pair_column: str | None = field(
        default=None, metadata=flag(metavar="NAME", help="the second text of a pair")
    )


@dataclass(frozen=True, kw_only=True)
class Columns(TextColumns):
    """Which columns of a file of labelled texts hold what.

    Attributes:
        label_column: The class.
    """

    label_column: str = field(
        default="label", metadata=flag(metavar="NAME", help="left out: label")
    )


def text_columns(names: Collection[str], columns: TextColumns) -> list[str]:
    """Return the names of the one or two columns of text.

    Args:
        names: The columns that a row or a table has.
        columns: Which of them hold what.

    Returns:
        The names; whether they are among the columns is for the caller to check.

    Raises:
        ColumnsError: No column is named, and not exactly one of the usual ones is there.
    """
    text = columns.text_column
    if text is None:
        found = [name for name in _TEXT_COLUMNS if name in names]
        if len(found) != 1:
            want = " or ".join(map(repr, _TEXT_COLUMNS))
            refuse_columns(names, f"{want} among them, or --text_column")
        (text,) = found
    return [text] if columns.text_pair_column is None else [text, columns.text_pair_column]


class ClassRows(RowForm):
    """Texts, or pairs of texts."""

    columns_class = TextColumns
    names = _NAMES

    def required(self, names: Collection[str], columns: TextColumns) -> list[str]:
        """Return the one or two columns of text; raises ColumnsError where one is missing."""
        return check_columns(names, text_columns(names, columns))

    def item(self, row: Mapping[str, Any], columns: TextColumns) -> Any:
        """Return the text, or the pair."""
        return TextInput(*(row[name] for name in text_columns(row.keys(), columns)))

    def fields(self, result: Classification) -> dict[str, Any]:
        """Return the class, with its alternatives where there are any."""
        return class_fields(result)


def class_fields(result: Classification) -> dict[str, Any]:
    """Return a class as plain JSON values by name."""
    fields: dict[str, Any] = {name: getattr(result, name) for name in _NAMES}
    if result.alternatives:
        fields[ALTERNATIVES] = [class_fields(other) for other in result.alternatives]
    return fields
