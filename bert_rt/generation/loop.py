"""The loop over a decoder: the searches of many sources, step by step together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.scores import best_of_rows
from bert_rt.generation.search import (
    Hypothesis,
    Search,
    advance_by_all,
    advance_together,
    start_search,
)
from bert_rt.types import FloatArray

__all__ = ["BestStepDecoder", "RankedStepDecoder", "Searches", "StepDecoder", "generate"]

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


@runtime_checkable
class RankedStepDecoder(StepDecoder, Protocol):
    """One that finds the best tokens in the scores of a step itself."""

    def best(self, logits: FloatArray, count: int) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Find the best tokens of each row.

        Args:
            logits: What the last step returned, unchanged.
            count: How many tokens, at most V.

        Returns:
            Their log probabilities, shape (R, count), float32, and the tokens, int32; greatest
            first, and of equal ones the lower token.
        """
        ...


@runtime_checkable
class BestStepDecoder(RankedStepDecoder, Protocol):
    """One that takes a step for the best tokens alone; sources may have any number of rows."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    def step_best(
        self, tokens: IntArray, beam_idx: IntArray, count: int
    ) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Do as step and best, to the bit.

        Args:
            tokens: As in step.
            beam_idx: As in step.
            count: As in best.

        Returns:
            As best.
        """
        ...


class Searches:
    """Searches that go on, step by step together. One that has ended is not computed any more."""

    def __init__(self, decoder: StepDecoder) -> None:
        """Begin with no search.

        Args:
            decoder: Takes their steps.
        """
        self._decoder = decoder
        # Asked once: the answer takes longer than all else that happens between two steps.
        self._finder = decoder if isinstance(decoder, BestStepDecoder) else None
        self._find = decoder.best if isinstance(decoder, RankedStepDecoder) else best_of_rows
        # Of every search that goes on, the row of the step before at which its rows began.
        self._going_on: list[tuple[Search, int]] = []
        self._num_rows = 0

    @property
    def takes_unlike(self) -> bool:
        """Whether searches may have different numbers of beams."""
        return self._finder is not None

    def __len__(self) -> int:
        """Return how many go on."""
        return len(self._going_on)

    def add(self, config: GenerationConfig) -> Search:
        """Begin the search for the next source that the decoder has read.

        Args:
            config: How to search. No target is longer than the decoder has positions for.

        Returns:
            The search, which step carries on.
        """
        search = start_search(config.limited(self._decoder.max_target_length))
        self._going_on.append((search, self._num_rows))
        self._num_rows += 1
        return search

    def drop(self, search: Search) -> None:
        """Do not go on with a search; harmless where it has ended."""
        self._going_on = [pair for pair in self._going_on if pair[0] is not search]

    def step(self) -> list[Search]:
        """Take one step of all of them, at least one.

        Returns:
            Those that were computed, in their order; some may have ended.
        """
        # A search that has just begun has one row, which stands for all of its first step.
        width = max(len(search.tokens) for search, _ in self._going_on)
        tokens: list[int] = []
        beam_idx: list[int] = []
        parts: list[slice] = []
        for search, first in self._going_on:
            copies = 1 if self._finder is not None else width // len(search.tokens)
            parts.append(slice(len(tokens), len(tokens) + len(search.tokens)))
            tokens += search.tokens * copies
            beam_idx += [first + parent for parent in search.parents] * copies
        searches = [search for search, _ in self._going_on]
        rows = np.array(tokens, np.int64), np.array(beam_idx, np.int64)
        self._advance(list(zip(searches, parts, strict=True)), *rows)
        self._going_on = [
            (search, part.start)
            for search, part in zip(searches, parts, strict=True)
            if not search.is_finished
        ]
        self._num_rows = len(tokens)
        return searches

    def _advance(
        self, searches: Sequence[tuple[Search, slice]], tokens: IntArray, beam_idx: IntArray
    ) -> None:
        """Take one step. What a search gets does not depend on whether others need all scores."""
        logits: FloatArray | None = None
        if self._finder is None:
            logits = self._decoder.step(tokens, beam_idx)
            assert len(logits) == len(tokens), f"got {len(logits)} rows, want {len(tokens)}"
            vocab_size = logits.shape[1]
        else:
            vocab_size = self._finder.vocab_size
        few: list[tuple[Search, slice]] = []
        forbidden: list[list[set[int]]] = []
        others: list[tuple[Search, slice]] = []
        most = 1
        for search, part in searches:
            never = search.forbidden()
            count = search.num_chosen + (max(map(len, never)) if never else 0)
            if never is None or count > vocab_size:
                others.append((search, part))
            else:
                few.append((search, part))
                forbidden.append(never)
                most = max(most, count)
        if self._finder is not None and not others:
            log_probs, best = self._finder.step_best(tokens, beam_idx, most)
        else:
            if logits is None:
                logits = self._decoder.step(tokens, beam_idx)
            if few:
                log_probs, best = self._find(logits, most)
            advance_by_all(others, logits)
        if few:
            advance_together(few, forbidden, log_probs, best)


def generate(
    decoder: StepDecoder, num_sources: int, config: GenerationConfig
) -> list[list[Hypothesis]]:
    """Write targets.

    Args:
        decoder: It has read num_sources sources, and no token of their targets.
        num_sources: How many.
        config: How to search. No target is longer than the decoder has positions for.

    Returns:
        For every source its num_return_sequences best targets, best first.
    """
    searches = Searches(decoder)
    found = [searches.add(config) for _ in range(num_sources)]
    while len(searches):
        searches.step()
    return [search.results() for search in found]
