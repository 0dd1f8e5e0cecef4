"""How fast an engine is, measured batch by batch."""

from __future__ import annotations

__all__ = ["Pace"]

# What was measured so many tokens ago counts half: a few batches of a busy engine. By tokens and
# not by batches, since a small batch tells less: what each costs whatever its size is in it.
_HALF_LIFE_TOKENS = 8192
# One batch that hung (a suspended machine) must not be taken for the engine's speed.
_MOST_CHANGE = 4.0


class Pace:
    """The seconds that a token takes: an average over tokens in which old ones fade."""

    def __init__(self) -> None:
        """Know nothing."""
        self._sum_s = 0.0
        self._sum_tokens = 0.0

    @property
    def seconds_per_token(self) -> float | None:
        """The average; None before the first batch."""
        return self._sum_s / self._sum_tokens if self._sum_tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """Its inverse."""
        return self._sum_tokens / self._sum_s if self._sum_tokens else None

    def add(self, num_tokens: int, seconds: float) -> None:
        """Learn of a batch.

        Args:
            num_tokens: Its tokens; at least 1.
            seconds: What it took; a clock too coarse to see it tells nothing.
        """
        if seconds <= 0:
            return
        usual = self.seconds_per_token
        if usual is not None:
            usual_s = num_tokens * usual
            seconds = min(max(seconds, usual_s / _MOST_CHANGE), usual_s * _MOST_CHANGE)
        kept = 0.5 ** (num_tokens / _HALF_LIFE_TOKENS)
        self._sum_s = kept * self._sum_s + seconds
        self._sum_tokens = kept * self._sum_tokens + num_tokens

    def seconds(self, num_tokens: float) -> float:
        """Predict what some tokens take; 0 where nothing was measured yet."""
        return num_tokens * (self.seconds_per_token or 0.0)
