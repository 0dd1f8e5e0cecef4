"""Samples -> figures: percentiles, rates and ratios with their spread.

A ratio is made round by round, so that what slows the machine down for a while slows both sides
down; its median over the rounds is reported with the least and the greatest round.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["PERCENTILES", "Rate", "Spread", "percentiles", "ratio", "spread"]

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Rate:
    """One timed pass.

    Attributes:
        seconds: How long it took.
        cpu_seconds: CPU time of the whole process meanwhile.
        num_questions: Questions done.
        num_sequences: Windows done.
        num_tokens: Their tokens, without padding.
    """

    seconds: float
    cpu_seconds: float
    num_questions: int
    num_sequences: int
    num_tokens: int

    @property
    def sequences_per_second(self) -> float:
        """Windows a second."""
        return self.num_sequences / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens a second, without padding."""
        return self.num_tokens / self.seconds

    @property
    def busy_cpus(self) -> float:
        """CPUs that were busy for this process, on average."""
        return self.cpu_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rounds.

    Attributes:
        median: Over all rounds.
        low: Of the least round.
        high: Of the greatest round.
    """

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Summarize rounds.

    Args:
        values: One a round, at least one.

    Returns:
        Median, least and greatest.
    """
    return Spread(statistics.median(values), min(values), max(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Divide round by round.

    Args:
        over: One value a round.
        under: The other side's values of the same rounds.

    Returns:
        The ratios' spread.
    """
    return spread([a / b for a, b in zip(over, under, strict=True)])


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile, interpolated linearly between samples.

    Args:
        values: At least one sample, in any order.

    Returns:
        The three percentiles, in the samples' unit.
    """
    p50, p95, p99 = np.percentile(np.asarray(values, np.float64), PERCENTILES)
    return float(p50), float(p95), float(p99)
