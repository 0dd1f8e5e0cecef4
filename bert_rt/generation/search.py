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

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.scores import (
    NEVER,
    apply_rules,
    best,
    best_of_rows,
    forbidden_tokens,
    log_softmax,
)
from bert_rt.types import FloatArray, IntArray

__all__ = [
    "BeamSearch",
    "GreedySearch",
    "Hypothesis",
    "Search",
    "advance_by_all",
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

    @property
    def num_chosen(self) -> int:
        """How many tokens advance_best needs of each row, beside those that are forbidden."""
        ...

    @property
    def running(self) -> list[float]:
        """The sum of every row's log probabilities, rounded to float32."""
        ...

    def forbidden(self) -> list[set[int]] | None:
        """Return the tokens that may not come next in each row, or no rows where there are none.

        None: a step needs all scores.
        """
        ...

    def advance_best(self, totals: Sequence[list[float]], tokens: Sequence[list[int]]) -> None:
        """Take one step that needs only the best tokens of each row.

        Args:
            totals: Of every row its sum with each token that may follow, rounded to float32;
                greatest first, and of equal ones the lowest token. Those of forbidden tokens are
                minus infinity, and at least num_chosen others are among them.
            tokens: These tokens.
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
        self.running = [0.0]
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

    num_chosen = 1

    def advance(self, logits: FloatArray) -> None:
        """Take one step; see Search."""
        advance_by_all([(self, slice(0, 1))], logits)

    def apply_rules(self, logits: FloatArray) -> None:
        """Change the scores of the one row, shape (1, V), by the rules of the search."""
        apply_rules(logits, [self._tokens], self._config)

    def forbidden(self) -> list[set[int]] | None:
        """Return no rows or None; see Search."""
        # What is forbidden takes no part in the sum of probabilities.
        return None if forbidden_tokens([self._tokens], self._config) != [] else []

    def advance_best(self, totals: Sequence[list[float]], tokens: Sequence[list[int]]) -> None:
        """Take one step; see Search."""
        token = tokens[0][0]
        self.running = totals[0][:1]
        self._tokens.append(token)
        is_long = len(self._tokens) >= self._config.longest
        self.is_finished = is_long or token in self._config.eos_token_ids

    def results(self) -> list[Hypothesis]:
        """Return the one target."""
        divisor = np.float32((len(self._tokens) - 1) ** self._config.length_penalty)
        return [Hypothesis(tuple(self._tokens), float(np.float32(self.running[0]) / divisor))]


class BeamSearch:
    """Keeps num_beams partial targets and the num_beams best complete ones."""

    def __init__(self, config: GenerationConfig) -> None:
        """Begin with the start token, in one row."""
        self._config = config
        self._rows: list[tuple[int, ...]] = [(config.decoder_start_token_id,)]
        self.running = [0.0]
        # How many of the best targets a step looks at: enough where many of them end.
        self.num_chosen = max(2, 1 + len(config.eos_token_ids)) * config.num_beams
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
            self.running = [0.0] + [float(_OUT)] * (num_beams - 1)
            self._rows *= num_beams
            is_first = True
        else:
            is_first = False
        totals = (scores + np.array(self.running, np.float32)[:, None]).reshape(-1)
        chosen = best(totals, min(self.num_chosen, len(totals)))
        parents, tokens = chosen // vocab_size, chosen % vocab_size
        found = (parents.tolist(), tokens.tolist(), totals[chosen].tolist())
        self._choose(*found, is_first=is_first)

    def forbidden(self) -> list[set[int]] | None:
        """Return the tokens that may not come next; see Search."""
        return forbidden_tokens(self._rows, self._config)

    def advance_best(self, totals: Sequence[list[float]], tokens: Sequence[list[int]]) -> None:
        """Take one step; see Search."""
        # Lists, not arrays: of so few numbers a call of NumPy takes longer than the sorting.
        flat = [total for row in totals for total in row]
        count = len(tokens[0])
        # Rows and their tokens stand in the order in which equal sums are taken.
        order = sorted(range(len(flat)), key=flat.__getitem__, reverse=True)[: self.num_chosen]
        parents = [place // count for place in order]
        chosen = [tokens[place // count][place % count] for place in order]
        sums = [flat[place] for place in order]
        self._choose(parents, chosen, sums, is_first=len(totals) == 1)

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
        self.running = [total for _, total in going_on]
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
        possible = np.float32(self.running[0]) / np.float32(length**config.length_penalty)
        return bool(possible > np.float32(self._complete[-1].score))

    def results(self) -> list[Hypothesis]:
        """Return the best targets."""
        return self._complete[: self._config.num_return_sequences]


def advance_together(
    searches: Sequence[tuple[Search, slice]],
    forbidden: Sequence[Sequence[Collection[int]]],
    log_probs: FloatArray,
    tokens: IntArray,
) -> None:
    """Take one step of several searches by advance_best.

    Args:
        searches: Searches, and which rows each of them has.
        forbidden: What each of them says that may not come next.
        log_probs: Log probabilities of tokens that follow, of the rows of all, shape (rows, C),
            float32; greatest first, and of equal ones the lowest token. C is enough for each
            search.
        tokens: These tokens, of the same shape.
    """
    log_probs = _without(log_probs, tokens, searches, forbidden)
    running = np.zeros((len(log_probs), 1), np.float32)
    for search, part in searches:
        running[part, 0] = search.running
    totals_of, tokens_of = (log_probs + running).tolist(), tokens.tolist()
    for search, part in searches:
        search.advance_best(totals_of[part], tokens_of[part])


def _without(
    log_probs: FloatArray,
    tokens: IntArray,
    searches: Sequence[tuple[Search, slice]],
    forbidden: Sequence[Sequence[Collection[int]]],
) -> FloatArray:
    """Make the log probabilities of forbidden tokens minus infinity."""
    if not any(forbidden):
        return log_probs
    most = max(len(never) for rows in forbidden for never in rows)
    never_RF = np.full((len(tokens), most), -1)
    for (_, part), rows in zip(searches, forbidden, strict=True):
        for row, never in enumerate(rows, part.start):
            never_RF[row, : len(never)] = list(never)
    out: FloatArray = log_probs.copy()
    for never in never_RF.T:
        out[tokens == never[:, None]] = NEVER
    return out


def advance_by_all(searches: Sequence[tuple[Search, slice]], logits: FloatArray) -> None:
    """Take one step of several searches by their scores, of greedy ones by one call.

    Args:
        searches: Searches, and which rows each of them has.
        logits: As in Search.advance, of the rows of all, shape (rows, V); changed in place.
    """
    greedy: list[tuple[GreedySearch, int]] = []
    for search, part in searches:
        if isinstance(search, GreedySearch):
            search.apply_rules(logits[part])
            greedy.append((search, part.start))
        else:
            search.advance(logits[part])
    if greedy:
        found = best_of_rows(logits[[row for _, row in greedy]], 1)
        alone = [(search, slice(place, place + 1)) for place, (search, _) in enumerate(greedy)]
        advance_together(alone, [()] * len(greedy), *found)


def _first_beams(totals: list[float], ends: list[bool], num_beams: int) -> list[tuple[int, float]]:
    """Return which rows go on, and their sums; those that end only where there are no others."""
    others = [pair for pair, is_end in zip(enumerate(totals), ends, strict=True) if not is_end]
    if len(others) >= num_beams and others[num_beams - 1][1] > _OUT / 2:
        return others[:num_beams]
    left = (np.array(totals, np.float32) + np.array(ends) * _OUT).astype(np.float32)
    return [(int(i), float(left[i])) for i in best(left, num_beams)]
