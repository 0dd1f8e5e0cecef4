"""Question answering over rows: columns of questions and contexts, or SQuAD files, to answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_rt.support.flags import flag
from bert_rt.tasks.forms.rows import ALTERNATIVES, RowForm, check_columns
from bert_rt.tasks.question_answering.squad_forms import read_document
from bert_rt.types import Answer

__all__ = ["AnswerAsked", "AnswerRows", "PairColumns", "answer_fields"]

_NAMES = ("text", "start", "end", "score", "logit", "null_score")


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Which columns hold what.

    Attributes:
        question_column: The question.
        context_column: The passage.
    """

    question_column: str = field(
        default="question", metadata=flag(metavar="NAME", help="left out: question")
    )
    context_column: str = field(
        default="context", metadata=flag(metavar="NAME", help="left out: context")
    )


@dataclass(frozen=True, kw_only=True)
class AnswerAsked:
    """What a user may ask for beside the number of answers.

    Attributes:
        max_overlap: As in AnsweringOptions.
    """

    max_overlap: float | None = field(
        default=None,
        metadata=flag(
            type=float,
            metavar="R",
            help="most of the shorter one's characters that two answers may share, from 0 (none) "
            "to 1; left out: no such rule",
        ),
    )


class AnswerRows(RowForm):
    """Questions over contexts."""

    columns_class = PairColumns
    asked_class = AnswerAsked
    names = _NAMES

    def required(self, names: Collection[str], columns: PairColumns) -> list[str]:
        """Return both columns; raises ColumnsError where one is missing."""
        return check_columns(names, [columns.question_column, columns.context_column])

    def item(self, row: Mapping[str, Any], columns: PairColumns) -> Any:
        """Return question and context."""
        return row[columns.question_column], row[columns.context_column]

    def fields(self, result: Answer) -> dict[str, Any]:
        """Return the answer, with its alternatives where there are any."""
        return answer_fields(result)

    def read_document(self, file: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Read a SQuAD file, or a list of flat records; raises InputError for other forms."""
        for record in read_document(file, text):
            row = record.fields
            if record.context is not None:
                row = {**row, "context": record.context}
            yield record.place, row


def answer_fields(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain JSON values by name."""
    fields: dict[str, Any] = {name: getattr(answer, name) for name in _NAMES}
    if answer.alternatives:
        fields[ALTERNATIVES] = [answer_fields(other) for other in answer.alternatives]
    return fields
