"""Documents in rows, and summaries as rows."""

from __future__ import annotations

from typing import Any

from bert_rt.tasks.forms.rows import AnyRows
from bert_rt.types import Summary

__all__ = ["SummaryRows", "summary_fields"]

_SENTENCE = ("text", "start", "end", "score", "index")


class SummaryRows(AnyRows):
    """A column of documents."""

    names = ("summary", "sentences")

    def fields(self, result: Summary) -> dict[str, Any]:
        """Return the summary and its sentences."""
        return summary_fields(result)


def summary_fields(result: Summary) -> dict[str, Any]:
    """Return a summary as plain JSON values by name."""
    sentences = [{name: getattr(each, name) for name in _SENTENCE} for each in result.sentences]
    return {"summary": result.text, "sentences": sentences}
