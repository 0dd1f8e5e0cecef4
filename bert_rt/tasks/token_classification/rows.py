"""Texts in rows, and the entities of texts as rows."""

from __future__ import annotations

from typing import Any

from bert_rt.tasks.forms.rows import AnyRows
from bert_rt.types import Entity, TaggedWord, Tagging

__all__ = ["TagRows", "tag_fields"]

_NAMES = ("text", "start", "end", "label", "score")


class TagRows(AnyRows):
    """A column of texts."""

    names = ("entities",)

    def fields(self, result: Tagging) -> dict[str, Any]:
        """Return the entities."""
        return tag_fields(result)


def tag_fields(result: Tagging, *, with_words: bool = False) -> dict[str, Any]:
    """Return entities, and perhaps all words, as plain JSON values by name."""
    fields = {"entities": [_fields(entity) for entity in result.entities]}
    if with_words:
        fields["words"] = [_fields(word) for word in result.words]
    return fields


def _fields(item: Entity | TaggedWord) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _NAMES}
