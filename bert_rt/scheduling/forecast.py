"""When something will be done, by how fast the last batches were."""

from __future__ import annotations

import math

from bert_rt.scheduling.batches import Batch
from bert_rt.scheduling.pace import Pace

__all__ = ["Forecast"]

# How much one request moves the ratio of its tokens to its estimate.
_RATIO_WEIGHT = 0.05
_MOST_RATIO = 100.0


class Forecast:
    """Learns from batches and requests, and predicts times from them."""

    def __init__(self, *, max_batch_tokens: int, max_batch_s: float | None) -> None:
        """Know nothing.

        Args:
            max_batch_tokens: Most tokens of a batch.
            max_batch_s: Most seconds that it should take; None for no limit.
        """
        self._max_batch_tokens = max_batch_tokens
        self._max_batch_s = max_batch_s
        self._engine_pace = Pace()  # of padded tokens, while the engine runs
        self._pace = Pace()  # of tokens, waiting for cores included
        self._ratio = 1.0

    @property
    def tokens_per_second(self) -> float | None:
        """What was computed, waiting for cores included; None before the first batch."""
        return self._pace.tokens_per_second

    @property
    def budget(self) -> int:
        """Tokens that a batch should have at most, padding counted where the engine pads."""
        if self._max_batch_s is None:
            return self._max_batch_tokens
        seconds = self._engine_pace.seconds_per_token
        # Before anything is measured, one window: the first of a batch is taken in any case.
        within = 1 if seconds is None else int(self._max_batch_s / seconds)
        return max(1, min(within, self._max_batch_tokens))

    def learn(self, num_tokens: int, cost: int, batch: Batch, now: float) -> None:
        """Learn how long a batch, or what is done of it, took.

        Args:
            num_tokens: The tokens that are done.
            cost: The same with padding.
            batch: When it was begun.
            now: The time.
        """
        self._engine_pace.add(cost, now - batch.started_s)
        self._pace.add(num_tokens, now - batch.since_s)

    def learn_estimate(self, estimate: int, num_tokens: int) -> None:
        """Learn how many tokens a request had for its estimate."""
        ratio = min(num_tokens / max(1, estimate), _MOST_RATIO)
        self._ratio += _RATIO_WEIGHT * (ratio - self._ratio)

    def likely_tokens(self, estimate: int) -> int:
        """Return how many tokens a request is likely to have."""
        return max(1, round(estimate * self._ratio))

    def seconds(self, num_tokens: float) -> float:
        """Predict what some tokens take; 0.0 before the first batch."""
        return self._pace.seconds(num_tokens)

    def seconds_left(self, running: Batch | None, now: float) -> float:
        """Predict when the batch that runs is done; one that is overdue takes as long again."""
        if running is None:
            return 0.0
        return abs(running.started_s + self._pace.seconds(running.num_tokens) - now)

    def seconds_to_end_of(self, num_tokens: int, total: int) -> float:
        """Predict when the batch with the last of some tokens is done.

        Args:
            num_tokens: The tokens.
            total: All that wait: they fill up the batch.

        Returns:
            Seconds.
        """
        whole = math.ceil(num_tokens / self.budget) * self.budget
        return self._pace.seconds(min(total, whole))
