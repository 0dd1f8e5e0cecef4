"""Which results INT8 changed, for people to judge: a mean can hide what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Change", "worst_first"]


@dataclass(frozen=True, slots=True)
class Change:
    """An example that INT8 gives another result than float.

    Attributes:
        example: The question, the text, or both texts.
        float_text: Float's result; "" for no answer.
        int8_text: INT8's.
        float_score: How good float's result is, in [0, 1].
        int8_score: How good INT8's is.
    """

    example: str
    float_text: str
    int8_text: str
    float_score: float
    int8_score: float


def worst_first(changes: Iterable[Change]) -> list[Change]:
    """Return the changes, the largest loss first, equal ones in the order in which they came."""
    return sorted(changes, key=lambda change: change.int8_score - change.float_score)
