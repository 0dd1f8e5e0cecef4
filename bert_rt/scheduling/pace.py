"""How fast an engine is, measured batch by batch."""

from __future__ import annotations

__all__ = ["Pace"]

# The weight of a new batch; the first ones are averaged.
_WEIGHT = 0.2
# A batch of fewer tokens than this tells less: what every batch costs whatever its size is in it.
_FULL_WEIGHT_TOKENS = 512
# One batch that hung (a suspended machine) must not be taken for the engine's speed.
_MOST_CHANGE = 4.0


class Pace:
    """A moving average of the seconds that a token takes."""

    def __init__(self) -> None:
        """Know nothing."""
        self._num_batches = 0
        self._seconds: float | None = None

    @property
    def seconds_per_token(self) -> float | None:
        """The average; None before the first batch."""
        return self._seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Its inverse."""
        return None if self._seconds is None else 1 / self._seconds

    def add(self, num_tokens: int, seconds: float) -> None:
        """Learn of a batch.

        Args:
            num_tokens: Its tokens; at least 1.
            seconds: What it took; a clock too coarse to see it tells nothing.
        """
        if seconds <= 0:
            return
        self._num_batches += 1
        got = seconds / num_tokens
        if self._seconds is None:
            self._seconds = got
            return
        got = min(max(got, self._seconds / _MOST_CHANGE), self._seconds * _MOST_CHANGE)
        share = num_tokens / (num_tokens + _FULL_WEIGHT_TOKENS)
        weight = max(_WEIGHT, 1 / self._num_batches) * share
        self._seconds += weight * (got - self._seconds)

    def seconds(self, num_tokens: float) -> float:
        """Predict what some tokens take; 0 where nothing was measured yet."""
        return 0.0 if self._seconds is None else num_tokens * self._seconds
