"""How a file of labelled texts names its columns."""

from __future__ import annotations

from dataclasses import dataclass, field

from bert_rt.support.flags import flag

__all__ = ["Columns"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a file of labelled texts hold what.

    Attributes:
        text_column: The text; None for "sentence" or "text", whichever the file has.
        text_pair_column: The second text of a pair; None where single texts are classified.
        label_column: The class.
    """

    text_column: str | None = field(
        default=None, metadata=flag(metavar="NAME", help="left out: sentence or text")
    )
    text_pair_column: str | None = field(
        default=None, metadata=flag(metavar="NAME", help="the second text of a pair")
    )
    label_column: str = field(
        default="label", metadata=flag(metavar="NAME", help="left out: label")
    )
