"""Greedy and beam search for one source: scores in, tokens and parents out.

A search holds no caches and calls no model. It says which row each new row continues, and whoever
runs the decoder moves its caches, or keeps a table of ancestors. Searches of different sources know
nothing of one another, so they can start and end at any time.

All choices are made in float32, and equal scores are taken in a fixed order: the lowest token of
the lowest beam first.

Source: Transformers 4.57 (generate) for the meaning of every option; Wu et al. 2016,
arXiv:1609.08144, section 7, for length normalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.scores import apply_rules, best, log_softmax
from bert_rt.types import FloatArray

__all__ = ["BeamSearch", "GreedySearch", "Hypothesis", "Search", "start_search"]

# What stands for "not in the race": of targets that are not complete, and beams that are no others.
_OUT = np.float32(-1.0e9)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A target.

    Attributes:
        token_ids: Its tokens, from the start token to the end token, where it has come to that.
        score: Sum of the log probabilities, divided by the number of new tokens to the power of
            length_penalty.
    """

    token_ids: tuple[int, ...]
    score: float


class Search(Protocol):
    """The search of one source."""

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing more to compute."""
        ...

    @property
    def tokens(self) -> list[int]:
        """The last token of every row, which the decoder reads next."""
        ...

    @property
    def parents(self) -> list[int]:
        """Which row of the step before each row continues, from 0."""
        ...

    def advance(self, logits: FloatArray) -> None:
        """Take one step.

        Args:
            logits: Scores of what follows `tokens`, shape (rows, V), float32; changed in place.
        """
        ...

    def results(self) -> list[Hypothesis]:
        """Return num_return_sequences targets, best first."""
        ...


def start_search(config: GenerationConfig) -> Search:
    """Begin the search of a source: one row, which holds the start token."""
    return GreedySearch(config) if config.num_beams == 1 else BeamSearch(config)


class GreedySearch:
    """Takes the best token at each step."""

    def __init__(self, config: GenerationConfig) -> None:
        """Begin with the start token."""
        self._config = config
        self._tokens = [config.decoder_start_token_id]
        self._sum = np.float32(0.0)
        self.is_finished = False
        self.parents = [0]

    @property
    def tokens(self) -> list[int]:
        """The last token."""
        return self._tokens[-1:]

    def advance(self, logits: FloatArray) -> None:
        """Take one step; see Search."""
        apply_rules(logits, [self._tokens], self._config)
        token = int(np.argmax(logits[0]))
        self._sum += log_softmax(logits[0])[token]
        self._tokens.append(token)
        is_long = len(self._tokens) >= self._config.longest
        self.is_finished = is_long or token in self._config.eos_token_ids

    def results(self) -> list[Hypothesis]:
        """Return the one target."""
        divisor = (len(self._tokens) - 1) ** self._config.length_penalty
        return [Hypothesis(tuple(self._tokens), float(self._sum / np.float32(divisor)))]


class BeamSearch:
    """Keeps num_beams partial targets and the num_beams best complete ones."""

    def __init__(self, config: GenerationConfig) -> None:
        """Begin with the start token, in one row."""
        self._config = config
        self._rows: list[tuple[int, ...]] = [(config.decoder_start_token_id,)]
        self._running = np.zeros(1, np.float32)
        # Complete targets, best first. Where there are none yet, their places are not taken.
        self._complete: list[Hypothesis] = []
        self.is_finished = False
        self.parents = [0]

    @property
    def tokens(self) -> list[int]:
        """The last token of every beam."""
        return [row[-1] for row in self._rows]

    def advance(self, logits: FloatArray) -> None:
        """Take one step; see Search."""
        config, num_beams = self._config, self._config.num_beams
        scores = log_softmax(logits)
        apply_rules(scores, self._rows, config)
        vocab_size = scores.shape[1]
        if len(self._rows) == 1:
            # As many beams as later, all but the first out of the race.
            scores = np.repeat(scores, num_beams, axis=0)
            self._running = np.full(num_beams, _OUT, np.float32)
            self._running[0] = 0.0
            self._rows *= num_beams
            is_first = True
        else:
            is_first = False
        totals = (scores + self._running[:, None]).reshape(-1)
        count = min(max(2, 1 + len(config.eos_token_ids)) * num_beams, len(totals))
        chosen = best(totals, count)
        parents, tokens = chosen // vocab_size, chosen % vocab_size
        rows = [(*self._rows[p], int(t)) for p, t in zip(parents, tokens, strict=True)]
        is_long = len(rows[0]) >= config.longest
        ends = np.array([is_long or row[-1] in config.eos_token_ids for row in rows])
        self._complete_with(rows, totals[chosen], ends)
        going_on = best(totals[chosen] + ends * _OUT, num_beams)
        self._rows = [rows[i] for i in going_on]
        self._running = (totals[chosen] + ends * _OUT)[going_on]
        self.parents = [0 if is_first else int(parents[i]) for i in going_on]
        self.is_finished = is_long or not self._can_improve()

    def _complete_with(
        self, rows: list[tuple[int, ...]], scores: FloatArray, ends: np.ndarray
    ) -> None:
        """Keep the best complete targets, of those that are among the best num_beams rows."""
        num_beams = self._config.num_beams
        divisor = np.float32((len(rows[0]) - 1) ** self._config.length_penalty)
        for row, score, is_end in list(zip(rows, scores, ends, strict=True))[:num_beams]:
            if is_end:
                self._complete.append(Hypothesis(row, float(score / divisor)))
        # Stable: of equal scores the older one stays in front.
        self._complete = sorted(self._complete, key=lambda h: -h.score)[:num_beams]

    def _can_improve(self) -> bool:
        config = self._config
        if len(self._complete) < config.num_beams:
            return True
        if config.early_stopping is True:
            return False
        length = len(self._rows[0]) - 1
        if config.early_stopping == "never" and config.length_penalty > 0:
            length = config.longest - 1
        possible = self._running[0] / np.float32(length**config.length_penalty)
        return bool(possible > np.float32(self._complete[-1].score))

    def results(self) -> list[Hypothesis]:
        """Return the best targets."""
        return self._complete[: self._config.num_return_sequences]
