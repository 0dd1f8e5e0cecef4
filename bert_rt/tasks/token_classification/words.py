"""The words of a text as its tokens show them, and the token that stands for each.

A word's label is that of its first token, as in BERT's paper. Where the caller gives the words,
they are joined with single spaces; otherwise words are runs of characters between white space and
marks, each mark is a word, and in scripts that put no spaces between words every token is one.

Shapes: T tokens, W words.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import EmptyInputError
from bert_rt.types import IntArray

__all__ = ["Words", "find_words", "join_words", "place_words"]

# Han, kana, Thai, Lao, Myanmar, Khmer; the planes of further Han characters.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x2FDF),
    (0x3040, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Words of a text.

    Attributes:
        spans_W2: Shape (W, 2), int32, half-open character spans.
        first_W: Shape (W,), int64, the token whose label is the word's.
    """

    spans_W2: IntArray
    first_W: NDArray[np.int64]


def join_words(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text of some words, with single spaces between them, and their spans."""
    spans = []
    end = -1
    for word in words:
        spans.append((end + 1, end + 1 + len(word)))
        end = spans[-1][1]
    return " ".join(words), tuple(spans)


def find_words(text: str, offsets_T2: IntArray) -> Words:
    """Find the words of a text.

    Args:
        text: The text.
        offsets_T2: Character spans of its tokens, shape (T, 2), int32.

    Returns:
        The words, in order.

    Raises:
        EmptyInputError: There is no token with a character that is not white space.
    """
    spaces = _running_count(text)
    tokens_V = _visible(offsets_T2, spaces)
    if not len(tokens_V):
        raise EmptyInputError("text: got text without a single token, want readable text")
    starts, ends = offsets_T2[tokens_V, 0], offsets_T2[tokens_V, 1]
    is_alone = _stand_alone(text)
    last_ends = np.maximum.accumulate(ends)[:-1]
    begins = starts[1:]
    is_first = np.ones(len(tokens_V), np.bool_)
    has_space = spaces[begins] > spaces[np.minimum(last_ends, begins)]
    # The bytes of one character may be several tokens: those overlap, and are one word.
    follows = begins >= last_ends
    is_first[1:] = has_space | (follows & (is_alone[begins] | is_alone[begins - 1]))
    first_W = np.flatnonzero(is_first)
    spans_W2 = np.stack([starts[first_W], np.maximum.reduceat(ends, first_W)], axis=1)
    return Words(spans_W2, tokens_V[first_W])


def place_words(text: str, spans: Sequence[tuple[int, int]], offsets_T2: IntArray) -> Words:
    """Find the tokens of words that the caller gave.

    Args:
        text: What join_words made of them.
        spans: Their spans.
        offsets_T2: Character spans of the text's tokens, shape (T, 2), int32.

    Returns:
        The same words; where a token covers the ends of two, it stands for both.

    Raises:
        EmptyInputError: A word has no token; the message names it.
    """
    spans_W2: IntArray = np.array(spans, np.int32).reshape(-1, 2)
    tokens_V = _visible(offsets_T2, _running_count(text))
    ends = np.maximum.accumulate(offsets_T2[tokens_V, 1])
    place_W = np.searchsorted(ends, spans_W2[:, 0], side="right")
    # One more, behind the text, for words behind the last token.
    starts = np.append(offsets_T2[tokens_V, 0], len(text))
    is_empty_W = starts[place_W] >= spans_W2[:, 1]
    if is_empty_W.any():
        index = int(is_empty_W.argmax())
        word = text[slice(*spans[index])]
        raise EmptyInputError(
            f"words[{index}]: got {word[:20]!a}, a word without a single token, want readable words"
        )
    return Words(spans_W2, tokens_V[place_W])


def _running_count(text: str) -> NDArray[np.int64]:
    """Count white space: at every position, and at the end, how much stands before it."""
    counts = np.zeros(len(text) + 1, np.int64)
    np.cumsum(np.fromiter(map(str.isspace, text), np.bool_, len(text)), out=counts[1:])
    return counts


def _visible(offsets_T2: IntArray, spaces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tokens that have a character which is not white space."""
    starts, ends = offsets_T2[:, 0], offsets_T2[:, 1]
    return np.flatnonzero(spaces[ends] - spaces[starts] < ends - starts)


def _stand_alone(text: str) -> NDArray[np.bool_]:
    """Tell the characters that are words by themselves, as far as tokens are no longer."""
    return np.fromiter(map(_stands_alone, text), np.bool_, len(text))


@functools.lru_cache(maxsize=2**16)
def _stands_alone(char: str) -> bool:
    if char.isascii():
        return not char.isalnum() and not char.isspace()
    if unicodedata.category(char).startswith("P"):
        return True
    return any(low <= ord(char) <= high for low, high in _UNSPACED)
