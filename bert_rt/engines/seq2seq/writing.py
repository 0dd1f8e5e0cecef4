"""Searches for the targets of sources that come and go: continuous batching.

A source whose search has ended leaves with the step that ended it, and one that waits takes its
place: nobody waits for the longest target of a batch. With a decoder that takes rows of any number
a source (the native one) sources need not be searched alike; with others those that are searched
with another number of beams wait until the rest is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bert_rt.engines.seq2seq.base import Asked, Seq2SeqDecoder, Seq2SeqEngine
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import Searches
from bert_rt.generation.search import Hypothesis, Search
from bert_rt.types import FloatArray, IntArray, Outputs, TokenSequence

__all__ = ["SCORES", "TOKEN_IDS", "Writing", "arrays_of"]

TOKEN_IDS, SCORES = "token_ids", "scores"
# One part of so many of the places must be empty before waiting sources take them: one by one
# they would be read slowly.
_ADMITTED_SHARE = 8


@dataclass(slots=True)
class _Source:
    number: int
    token_ids: IntArray
    asked: Asked


class Writing:
    """A Run of an engine that writes."""

    def __init__(self, engine: Seq2SeqEngine, least: GenerationConfig, *, max_rows: int) -> None:
        """Begin without any source.

        Args:
            engine: The open engine; nobody else starts it while this is used.
            least: How the targets of sources are searched that do not say.
            max_rows: Most rows that are decoded together.
        """
        self._engine = engine
        self._least = least
        self._max_rows = max_rows
        self._num_joined = 0
        self._waiting: deque[_Source] = deque()
        self._running: dict[Search, _Source] = {}
        self._decoder: Seq2SeqDecoder | None = None
        self._searches: Searches | None = None
        self._num_beams = least.num_beams  # most of those that run

    @property
    def num_free(self) -> int:
        """How many more sources should join now."""
        return 0 if self._waiting else self._num_empty(self._num_beams)

    def join(self, sequences: Sequence[TokenSequence]) -> None:
        """Take more sources, the options of each of class Asked or None."""
        self.take([(sequence.input_ids, sequence.options) for sequence in sequences])

    def take(self, sources: Sequence[tuple[IntArray, Asked | None]]) -> None:
        """Take more sources, as token ids and what each asks."""
        numbered = [
            _Source(number, token_ids, asked or Asked(self._least))
            for number, (token_ids, asked) in enumerate(sources, self._num_joined)
        ]
        self._num_joined += len(numbered)
        # Those that are searched alike side by side, and the longest first.
        groups: dict[GenerationConfig, list[_Source]] = {}
        for source in numbered:
            groups.setdefault(source.asked.search, []).append(source)
        for group in groups.values():
            self._waiting += sorted(group, key=lambda source: -len(source.token_ids))

    def leave(self, numbers: Collection[int]) -> None:
        """Do not search for targets of sources any more."""
        self._waiting = deque(each for each in self._waiting if each.number not in numbers)
        for search, source in list(self._running.items()):
            if source.number in numbers:
                assert self._searches is not None
                self._searches.drop(search)
                del self._running[search]

    def step(self) -> Mapping[int, Outputs]:
        """Read the sources that there is place for, and write one more token of every target.

        Returns:
            By number what was found for the sources that are done: token_ids of shape (1, N, L)
            and scores of shape (1, N), without the first axis.

        Raises:
            EngineInternalError: The library underneath failed, or the engine is closed.
        """
        self._read()
        if not self._running:
            return {}
        assert self._searches is not None
        done: dict[int, Outputs] = {}
        for search in self._searches.step():
            source = self._running[search]
            if source.asked.watch is not None:
                source.asked.watch(search.settled)
            if search.is_finished:
                del self._running[search]
                found = arrays_of([search.results()])
                done[source.number] = {name: array[0] for name, array in found.items()}
        return done

    def finish(self) -> list[Outputs]:
        """Take steps until all sources are done.

        Returns:
            What steps returned, in the order of the sources; those that have left have none.
        """
        found: dict[int, Outputs] = {}
        while self._waiting or self._running:
            found |= self.step()
        return [found[number] for number in sorted(found)]

    def _num_empty(self, num_beams: int) -> int:
        """Return how many places are empty, if so many that sources may take them."""
        places = max(1, self._max_rows // num_beams)
        empty = places - len(self._running)
        return 0 if self._running and empty * _ADMITTED_SHARE < places else empty

    def _read(self) -> None:
        """Let the decoder read waiting sources."""
        while self._waiting:
            config = self._waiting[0].asked.search
            if not self._fits(config):
                return
            beams = max(self._num_beams, config.num_beams) if self._running else config.num_beams
            more: list[_Source] = []
            empty = self._num_empty(beams)
            while self._waiting and self._waiting[0].asked.search == config and len(more) < empty:
                more.append(self._waiting.popleft())
            if not more:
                return
            self._num_beams = beams
            self._admit(more, config)

    def _fits(self, config: GenerationConfig) -> bool:
        """Whether a source may be searched so beside those that run."""
        if not self._running or self._searches is None or self._searches.takes_unlike:
            return True
        return config.num_beams == self._num_beams

    def _admit(self, sources: Sequence[_Source], config: GenerationConfig) -> None:
        token_ids = [source.token_ids for source in sources]
        if self._decoder is None or not (self._running or self._takes_unlike):
            self._decoder = self._engine.start(token_ids)
            self._searches = Searches(self._decoder)
        else:
            self._decoder.admit(token_ids)
        assert self._searches is not None
        self._running |= {self._searches.add(config): source for source in sources}

    @property
    def _takes_unlike(self) -> bool:
        return self._searches is not None and self._searches.takes_unlike


def arrays_of(found: Sequence[Sequence[Hypothesis]]) -> dict[str, FloatArray]:
    """Put the targets of sources into arrays.

    Args:
        found: Of every source its targets, best first.

    Returns:
        token_ids (B, N, L), filled up with -1, and scores (B, N), filled up with NaN, float32:
        token ids are below 2**24, so none is rounded.
    """
    most = max(len(group) for group in found)
    longest = max(len(item.token_ids) for group in found for item in group)
    token_ids = np.full((len(found), most, longest), -1, np.float32)
    scores = np.full((len(found), most), np.nan, np.float32)
    for i, group in enumerate(found):
        for j, item in enumerate(group):
            token_ids[i, j, : len(item.token_ids)] = item.token_ids
            scores[i, j] = item.score
    return {TOKEN_IDS: token_ids, SCORES: scores}
