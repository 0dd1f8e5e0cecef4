"""Unit tests of train.optim.schedule: a run that ends by steps, by time or by both."""

from __future__ import annotations

import itertools

import pytest

from train.optim.schedule import progress_of, rate_at


@pytest.mark.parametrize(
    ("step", "total_steps", "elapsed_s", "max_seconds", "progress"),
    [
        (0, None, 1e9, None, 0.0),  # nothing ends it
        (0, 10, 0.0, None, 0.0),
        (9, 10, 1e9, None, 0.9),
        (10, 10, 0.0, None, 1.0),
        (11, 10, 0.0, None, 1.0),  # resumed with fewer steps than are done
        (10**6, None, 30.0, 60.0, 0.5),
        (0, None, 60.0, 60.0, 1.0),
        (0, None, 61.0, 60.0, 1.0),
        (2, 10, 30.0, 60.0, 0.5),  # time is nearer
        (8, 10, 30.0, 60.0, 0.8),  # steps are nearer
        (1, 1, 0.0, 60.0, 1.0),
    ],
)
def test_progress(
    step: int,
    total_steps: int | None,
    elapsed_s: float,
    max_seconds: float | None,
    progress: float,
) -> None:
    assert progress_of(step, total_steps, elapsed_s, max_seconds) == progress


@pytest.mark.parametrize(
    ("progress", "warmup_ratio", "rate"),
    [
        (0.0, 0.1, 0.0),
        (0.05, 0.1, 0.5),
        (0.1, 0.1, 1.0),
        (0.55, 0.1, 0.5),
        (1.0, 0.1, 0.0),
        (0.0, 0.0, 1.0),  # no rise
        (0.5, 0.0, 0.5),
        (1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0),  # no fall
        (0.999, 1.0, 0.999),
        (1.0, 1.0, 1.0),
    ],
)
def test_rate(progress: float, warmup_ratio: float, rate: float) -> None:
    assert rate_at(progress, warmup_ratio) == pytest.approx(rate, abs=1e-12)


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.06, 0.5, 1.0])
def test_the_rate_is_continuous_and_within_its_range(warmup_ratio: float) -> None:
    rates = [rate_at(step / 1000, warmup_ratio) for step in range(1001)]
    assert min(rates) >= 0.0
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    steepest = 1 / 1000 / min(x for x in (warmup_ratio, 1 - warmup_ratio) if x > 0)
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) <= steepest + 1e-9
