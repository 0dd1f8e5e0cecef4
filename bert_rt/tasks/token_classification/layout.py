"""How a file of labelled words names its fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from bert_rt.support.flags import flag

__all__ = ["WordFields"]


@dataclass(frozen=True, kw_only=True)
class WordFields:
    """Which fields of the lines of a file hold what.

    Attributes:
        words_field: The list of words; None for "words" or "tokens", whichever the file has.
        tags_field: The list of their labels; None for "tags", "ner_tags" or "labels", likewise.
    """

    words_field: str | None = field(
        default=None, metadata=flag(metavar="NAME", help="left out: words or tokens")
    )
    tags_field: str | None = field(
        default=None, metadata=flag(metavar="NAME", help="left out: tags, ner_tags or labels")
    )
