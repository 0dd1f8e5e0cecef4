"""Texts in rows, and their translations as rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bert_rt.support.flags import flag
from bert_rt.tasks.forms.rows import AnyRows
from bert_rt.types import TranslatedSentence, TranslatedText

__all__ = ["SearchFlags", "TranslationRows", "translation_fields"]


@dataclass(frozen=True, kw_only=True)
class SearchFlags:
    """How translations are searched: fields of TranslateOptions.

    Attributes:
        num_beams: Partial translations that the search keeps; 1 is greedy search.
        length_penalty: Above 0 longer translations gain.
        no_repeat_ngram_size: No so many tokens in a row stand twice; 0 for no such rule.
        max_new_tokens: Most tokens of a sentence's translation.
        min_new_tokens: Least tokens of a sentence's translation.
    """

    num_beams: int | None = field(default=None, metadata=flag(type=int, help="1 is greedy search"))
    length_penalty: float | None = field(default=None, metadata=flag(type=float, metavar="X"))
    no_repeat_ngram_size: int | None = field(default=None, metadata=flag(type=int))
    max_new_tokens: int | None = field(default=None, metadata=flag(type=int, help="of a sentence"))
    min_new_tokens: int | None = field(default=None, metadata=flag(type=int, help="of a sentence"))
    early_stopping: Literal["never"] | None = field(
        default=None, metadata=flag(choices=("never",), help="go on while a beam can become better")
    )


class TranslationRows(AnyRows):
    """A column of texts."""

    asked_class = SearchFlags
    names = ("translation", "score", "sentences")

    def fields(self, result: TranslatedText) -> dict[str, Any]:
        """Return the translation and its sentences."""
        return translation_fields(result)


def translation_fields(result: TranslatedText) -> dict[str, Any]:
    """Return a translation as plain JSON values by name."""
    scores = [sentence.score for sentence in result.sentences]
    return {
        "translation": result.text,
        "score": sum(scores) / len(scores),
        "sentences": [_fields(sentence) for sentence in result.sentences],
    }


def _fields(sentence: TranslatedSentence) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: getattr(sentence, name) for name in ("text", "start", "end", "score")
    }
    if sentence.alternatives:
        others = [{"text": each.text, "score": each.score} for each in sentence.alternatives]
        fields["alternatives"] = others
    return fields
