"""Words of a text and where they stand, as the `tokenizers` library tells them.

`Tokenizer.encode` moves every span off white space. The pipelines need the spans that programs
over the library see instead: byte-level BPE's post-processor trims them in a way of its own, which
leaves a token of white space alone without any character, and others do not trim at all.

Source: the behaviour of the post-processors RobertaProcessing and ByteLevel of tokenizers 0.22.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from bert_rt.types import IntArray

__all__ = ["OffsetTrimming", "WordSpans", "read_trimming", "word_spans"]

_SPACE = "\u0120"  # how byte-level BPE writes a space


@dataclass(frozen=True, slots=True)
class WordSpans:
    """The tokens of a text, T of them.

    Attributes:
        offsets: Character spans of shape (T, 2), int32.
        opening_offsets: The same for a token that is the first one of a window.
        is_word_start: Shape (T,), bool; False where a token continues a word.
    """

    offsets: IntArray
    opening_offsets: IntArray
    is_word_start: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OffsetTrimming:
    """How a post-processor takes spaces off the spans of tokens.

    Attributes:
        is_on: Whether it does.
        add_prefix_space: Whether the first space of a window's first token was added in front of
            the text, so that it has no character.
    """

    is_on: bool = False
    add_prefix_space: bool = False


def read_trimming(post_processor: Any) -> OffsetTrimming:
    """Read from a post-processor how it trims.

    Args:
        post_processor: One of the library, or None.

    Returns:
        What the first part that trims says.
    """
    if post_processor is None:
        return OffsetTrimming()
    for part in _parts(json.loads(post_processor.__getstate__())):
        if part.get("trim_offsets"):
            return OffsetTrimming(True, bool(part.get("add_prefix_space")))
    return OffsetTrimming()


def word_spans(encoding: tokenizers.Encoding, trimming: OffsetTrimming) -> WordSpans:
    """Find words and spans.

    Args:
        encoding: What the library gave for a text, without a post-processor.
        trimming: How the post-processor trims.

    Returns:
        Words and spans.
    """
    word_ids = encoding.word_ids
    is_word_start = np.ones(len(word_ids), np.bool_)
    is_word_start[1:] = [last != word for last, word in pairwise(word_ids)]
    offsets: IntArray = np.array(encoding.offsets, np.int32).reshape(-1, 2)
    if not trimming.is_on:
        return WordSpans(offsets, offsets, is_word_start)
    tokens = encoding.tokens
    leading = np.array([len(token) - len(token.lstrip(_SPACE)) for token in tokens], np.int32)
    trailing = np.array([len(token) - len(token.rstrip(_SPACE)) for token in tokens], np.int32)
    # A space that was added in front of the text has no character to be taken off.
    opening = np.maximum(leading - trimming.add_prefix_space, 0)
    inner = np.where(offsets[:, 0] == 0, opening, leading)
    return WordSpans(
        _trimmed(offsets, inner, trailing), _trimmed(offsets, opening, trailing), is_word_start
    )


def _parts(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a post-processor, or the parts of a sequence."""
    if state.get("type") != "Sequence":
        yield state
    for part in state.get("processors", ()):
        yield from _parts(part)


def _trimmed(offsets: IntArray, leading: IntArray, trailing: IntArray) -> IntArray:
    """Move starts and ends by numbers of spaces, shape (T,), but never past each other."""
    starts = np.minimum(offsets[:, 0] + leading, offsets[:, 1])
    ends = np.where(
        offsets[:, 1] >= trailing, np.maximum(offsets[:, 1] - trailing, starts), offsets[:, 1]
    )
    return np.stack([starts, ends], axis=1)
