"""Sentences -> windows of whole sentences that fit the model.

    [CLS] sentence [SEP] [CLS] sentence [SEP] ...     token types 0, 1, 0, ... by sentence

The score of a sentence is the mean of its tokens' scores, special tokens left out, from the window
that shows the most around it on its narrower side.

Source: BertSum, Liu and Lapata 2019, arXiv:1903.10318, section 3.1, has the sequences. It reads a
sentence's score at its [CLS]; but inside of a sequence a pretrained model's [CLS] says little of
the sentence behind it, and small data do not change that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bert_rt.errors import InputTooLongError
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.text.windows import MAX_WINDOWS
from bert_rt.types import IntArray, TokenSequence

__all__ = ["SentenceWindow", "make_windows"]


@dataclass(frozen=True, slots=True)
class SentenceWindow(TokenSequence):
    """One window.

    Attributes:
        places: Where each of its sentences begins, a position in input_ids.
        first: Which sentence of the document its first one is.
        is_best: Whether no other window shows a sentence with more tokens around it.
    """

    places: tuple[int, ...]
    first: int
    is_best: tuple[bool, ...]

    @property
    def token_spans(self) -> list[tuple[int, int]]:
        """First and one past the last of each sentence's own tokens, positions in input_ids."""
        ends = (*self.places[1:], self.num_tokens)
        return [(place + 1, end - 1) for place, end in zip(self.places, ends, strict=True)]

    @property
    def logit_range(self) -> tuple[int, int]:
        """From the first sentence's first token to the last one's last."""
        return 1, self.num_tokens - 1


def make_windows(
    sentences: Sequence[IntArray],
    config: SummaryConfig,
    *,
    cls_id: int,
    sep_id: int,
    num_token_types: int = 2,
) -> list[SentenceWindow]:
    """Put sentences into windows.

    Args:
        sentences: Token ids of every sentence, without special tokens; at least one sentence.
        config: max_seq_length, doc_stride, max_sentence_length and max_windows are used.
        cls_id: Id of the token in front of a sentence.
        sep_id: Id of the token behind it.
        num_token_types: How many the model has.

    Returns:
        Windows in the order of the document; every sentence that they show is_best in exactly one.

    Raises:
        InputTooLongError: There would be more than MAX_WINDOWS windows.
    """
    room = min(config.max_sentence_length, config.max_seq_length - 2)
    ids = [np.concatenate(([cls_id], s[:room], [sep_id]), dtype=np.int32) for s in sentences]
    lengths = [len(row) for row in ids]
    bounds = _bounds(lengths, config)[: config.max_windows or None]
    if len(bounds) > MAX_WINDOWS:
        raise InputTooLongError(
            f"text: got {len(sentences)} sentences, which are {len(bounds)} windows, want at most "
            f"{MAX_WINDOWS} windows"
        )
    best = _best(lengths[: bounds[-1][1]], bounds)
    windows = []
    for number, (first, end) in enumerate(bounds):
        places = np.cumsum([0, *lengths[first : end - 1]])
        types = [index % 2 if num_token_types > 1 else 0 for index in range(end - first)]
        windows.append(
            SentenceWindow(
                np.concatenate(ids[first:end]),
                np.repeat(np.array(types, np.int32), lengths[first:end]),
                tuple(places.tolist()),
                first,
                tuple(best[index] == number for index in range(first, end)),
            )
        )
    return windows


def _bounds(lengths: Sequence[int], config: SummaryConfig) -> list[tuple[int, int]]:
    """Return first sentence and one past the last of every window."""
    bounds = []
    first = 0
    while True:
        end, total = first, 0
        while end < len(lengths) and total + lengths[end] <= config.max_seq_length:
            total += lengths[end]
            end += 1
        bounds.append((first, end))
        if end == len(lengths):
            return bounds
        # Back by whole sentences, but never to where this window began.
        start, shared = end, 0
        while start - 1 > first and shared + lengths[start - 1] <= config.doc_stride:
            start -= 1
            shared += lengths[start]
        first = start


def _best(lengths: Sequence[int], bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Return for every sentence the window that shows it best; of equal ones the first."""
    best = [-1] * len(lengths)
    most = [-1] * len(lengths)
    for number, (first, end) in enumerate(bounds):
        before, total = 0, sum(lengths[first:end])
        for index in range(first, end):
            around = min(before, total - before - lengths[index])
            if around > most[index]:
                best[index], most[index] = number, around
            before += lengths[index]
    return best
