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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.scores import NEVER, apply_rules, best, forbidden_tokens, log_softmax
from bert_rt.types import FloatArray, IntArray

__all__ = [
    "BeamSearch",
    "GreedySearch",
    "Hypothesis",
    "Search",
    "advance_together",
    "start_search",
]

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

    @property
    def settled(self) -> tuple[int, ...]:
        """The tokens of the best target that no later step can change, the start token first."""
        ...

    def advance(self, logits: FloatArray) -> None:
        """Take one step.

        Args:
            logits: Scores of what follows `tokens`, shape (rows, V), float32; changed in place.
        """
        ...

    def num_candidates(self) -> int | None:
        """Return how many of each row's best tokens advance_best needs; None: all scores."""
        ...

    def advance_best(self, log_probs: FloatArray, tokens: IntArray) -> None:
        """Take one step that needs only the best tokens of each row.

        Args:
            log_probs: Log probabilities of num_candidates() tokens or more that follow `tokens`,
                shape (rows, C), float32; greatest first, and of equal ones the lowest token.
            tokens: These tokens, of the same shape.
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

    @property
    def settled(self) -> tuple[int, ...]:
        """All tokens so far; see Search."""
        return tuple(self._tokens)

    def advance(self, logits: FloatArray) -> None:
        """Take one step; see Search."""
        apply_rules(logits, [self._tokens], self._config)
        token = int(np.argmax(logits[0]))
        self._take(token, log_softmax(logits[0])[token])

    def num_candidates(self) -> int | None:
        """Return how many of the best tokens a step needs; see Search."""
        # What is forbidden takes no part in the sum of probabilities.
        return 1 if forbidden_tokens([self._tokens], self._config) == [set()] else None

    def advance_best(self, log_probs: FloatArray, tokens: IntArray) -> None:
        """Take one step; see Search."""
        self._take(int(tokens[0, 0]), log_probs[0, 0])

    def _take(self, token: int, score: np.float32) -> None:
        self._sum += score
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
        # Of every row the sum of its log probabilities, rounded to float32.
        self._running = [0.0]
        # Complete targets, best first. Where there are none yet, their places are not taken.
        self._complete: list[Hypothesis] = []
        self.is_finished = False
        self.parents = [0]

    @property
    def tokens(self) -> list[int]:
        """The last token of every beam."""
        return [row[-1] for row in self._rows]

    @property
    def settled(self) -> tuple[int, ...]:
        """What all targets that may win begin with; see Search."""
        if self.is_finished:
            return self._complete[0].token_ids
        rows = [*self._rows, *(item.token_ids for item in self._complete)]
        settled = []
        for token, *others in zip(*rows, strict=False):
            if any(other != token for other in others):
                break
            settled.append(token)
        return tuple(settled)

    def advance(self, logits: FloatArray) -> None:
        """Take one step; see Search."""
        config, num_beams = self._config, self._config.num_beams
        scores = log_softmax(logits)
        apply_rules(scores, self._rows, config)
        vocab_size = scores.shape[1]
        if len(self._rows) == 1:
            # As many beams as later, all but the first out of the race.
            scores = np.repeat(scores, num_beams, axis=0)
            self._running = [0.0] + [float(_OUT)] * (num_beams - 1)
            self._rows *= num_beams
            is_first = True
        else:
            is_first = False
        totals = (scores + np.array(self._running, np.float32)[:, None]).reshape(-1)
        chosen = best(totals, min(self.num_chosen, len(totals)))
        parents, tokens = chosen // vocab_size, chosen % vocab_size
        found = (parents.tolist(), tokens.tolist(), totals[chosen].tolist())
        self._choose(*found, is_first=is_first)

    def num_candidates(self) -> int | None:
        """Return how many of each row's best tokens a step needs; see Search."""
        forbidden = forbidden_tokens(self._rows, self._config)
        return None if forbidden is None else self.num_chosen + max(map(len, forbidden))

    def advance_best(self, log_probs: FloatArray, tokens: IntArray) -> None:
        """Take one step; see Search."""
        forbidden = forbidden_tokens(self._rows, self._config)
        assert forbidden is not None, "num_candidates says when all scores are needed"
        if any(forbidden):
            log_probs = log_probs.copy()
            for scores, row, never in zip(log_probs, tokens, forbidden, strict=True):
                scores[np.isin(row, list(never))] = NEVER
        self._advance_all([self], log_probs[None], tokens[None])

    @staticmethod
    def _advance_all(
        searches: Sequence[BeamSearch], log_probs_BQC: FloatArray, tokens_BQC: IntArray
    ) -> None:
        """Take one step of B searches with Q rows each, of which no token is forbidden.

        The sums of all are sorted by one call: for one search a call of NumPy takes longer than
        what it computes.
        """
        num_sources, num_rows, count = log_probs_BQC.shape
        running_BQ = np.array([search._running for search in searches], np.float32)
        totals_BN = (log_probs_BQC + running_BQ[:, :, None]).reshape(num_sources, -1)
        # Rows and their tokens stand in the order in which equal scores are taken.
        order_BK = np.argsort(-totals_BN, axis=1, kind="stable")[:, : searches[0].num_chosen]
        tokens_BN = tokens_BQC.reshape(num_sources, -1)
        found = (
            order_BK // count,
            np.take_along_axis(tokens_BN, order_BK, 1),
            np.take_along_axis(totals_BN, order_BK, 1),
        )
        rows = zip(searches, *(array.tolist() for array in found), strict=True)
        for search, parents, tokens, totals in rows:
            search._choose(parents, tokens, totals, is_first=num_rows == 1)

    @property
    def num_chosen(self) -> int:
        """How many of the best targets a step looks at: enough where many of them end."""
        return max(2, 1 + len(self._config.eos_token_ids)) * self._config.num_beams

    def _choose(
        self, parents: list[int], tokens: list[int], totals: list[float], *, is_first: bool
    ) -> None:
        """Go on with the best rows, and keep those that are complete; best first."""
        config, before = self._config, self._rows
        is_long = len(before[0]) + 1 >= config.longest
        ends = [is_long or token in config.eos_token_ids for token in tokens]
        if any(ends):
            rows = [(*before[p], token) for p, token in zip(parents, tokens, strict=True)]
            self._complete_with(rows, totals, ends)
        going_on = _first_beams(totals, ends, config.num_beams)
        self._rows = [(*before[parents[i]], tokens[i]) for i, _ in going_on]
        self._running = [total for _, total in going_on]
        self.parents = [0 if is_first else parents[i] for i, _ in going_on]
        self.is_finished = is_long or not self._can_improve()

    def _complete_with(
        self, rows: list[tuple[int, ...]], scores: list[float], ends: list[bool]
    ) -> None:
        """Keep the best complete targets, of those that are among the best num_beams rows."""
        num_beams = self._config.num_beams
        divisor = np.float32((len(rows[0]) - 1) ** self._config.length_penalty)
        for row, score, is_end in list(zip(rows, scores, ends, strict=True))[:num_beams]:
            if is_end:
                self._complete.append(Hypothesis(row, float(np.float32(score) / divisor)))
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
        possible = np.float32(self._running[0]) / np.float32(length**config.length_penalty)
        return bool(possible > np.float32(self._complete[-1].score))

    def results(self) -> list[Hypothesis]:
        """Return the best targets."""
        return self._complete[: self._config.num_return_sequences]


def advance_together(
    searches: Sequence[tuple[Search, slice]],
    counts: Sequence[int],
    log_probs: FloatArray,
    tokens: IntArray,
) -> None:
    """Take one step of several searches by advance_best, those that are alike by one call.

    Args:
        searches: Searches, and which rows each of them has.
        counts: What their num_candidates says.
        log_probs: As in Search.advance_best, of the rows of all, shape (rows, C).
        tokens: The same, tokens.
    """
    alike: dict[tuple[int, int], list[tuple[BeamSearch, int]]] = {}
    for (search, part), count in zip(searches, counts, strict=True):
        if isinstance(search, BeamSearch) and count == search.num_chosen:
            alike.setdefault((part.stop - part.start, count), []).append((search, part.start))
        else:
            search.advance_best(log_probs[part, :count], tokens[part, :count])
    for (num_rows, count), group in alike.items():
        rows_BQ = np.array([first for _, first in group])[:, None] + np.arange(num_rows)
        beams = [search for search, _ in group]
        BeamSearch._advance_all(beams, log_probs[rows_BQ, :count], tokens[rows_BQ, :count])


def _first_beams(totals: list[float], ends: list[bool], num_beams: int) -> list[tuple[int, float]]:
    """Return which rows go on, and their sums; those that end only where there are no others."""
    others = [pair for pair, is_end in zip(enumerate(totals), ends, strict=True) if not is_end]
    if len(others) >= num_beams and others[num_beams - 1][1] > _OUT / 2:
        return others[:num_beams]
    left = (np.array(totals, np.float32) + np.array(ends) * _OUT).astype(np.float32)
    return [(int(i), float(left[i])) for i in best(left, num_beams)]
