"""The loop over a decoder: the searches of many sources, step by step together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.search import Hypothesis, Search, start_search
from bert_rt.types import FloatArray

__all__ = ["StepDecoder", "generate"]

IntArray = npt.NDArray[np.int64]


class StepDecoder(Protocol):
    """A decoder that has read its sources, and reads targets token by token.

    Its rows are partial targets. Before the first step there is one empty row a source, in the
    order of the sources. Rows of one source always stand together, all sources that are left have
    equally many, and they stay in their order.
    """

    @property
    def max_target_length(self) -> int:
        """Most tokens of a target, the start token included."""
        ...

    def step(self, tokens: IntArray, beam_idx: IntArray) -> FloatArray:
        """Read one more token in every row.

        Args:
            tokens: What each new row reads, shape (R,), int64.
            beam_idx: Which row of the step before each new row continues, shape (R,), int64. A row
                may be continued several times, or not at all, as when its source is finished.

        Returns:
            Scores of each row's next token, shape (R, V), float32; the caller may change them.
        """
        ...


def generate(
    decoder: StepDecoder, num_sources: int, config: GenerationConfig
) -> list[list[Hypothesis]]:
    """Write targets; a source whose search has ended is not computed any more.

    Args:
        decoder: It has read num_sources sources, and no token of their targets.
        num_sources: How many.
        config: How to search. No target is longer than the decoder has positions for.

    Returns:
        For every source its num_return_sequences best targets, best first.
    """
    config = config.limited(decoder.max_target_length)
    searches = [start_search(config) for _ in range(num_sources)]
    # Of every search that goes on, the row of the step before at which its rows began.
    going_on = list(zip(searches, range(num_sources), strict=True))
    while going_on:
        tokens = [token for search, _ in going_on for token in search.tokens]
        beam_idx = [first + parent for search, first in going_on for parent in search.parents]
        logits = decoder.step(np.array(tokens, np.int64), np.array(beam_idx, np.int64))
        going_on = _advance([search for search, _ in going_on], logits)
    return [search.results() for search in searches]


def _advance(searches: Sequence[Search], logits: FloatArray) -> list[tuple[Search, int]]:
    first, going_on = 0, []
    for search in searches:
        num_rows = len(search.tokens)
        search.advance(logits[first : first + num_rows])
        if not search.is_finished:
            going_on.append((search, first))
        first += num_rows
    assert first == len(logits), f"got {len(logits)} rows of scores, want {first}"
    return going_on
