from __future__ import annotations

import pytest

from runtime.bench.statistics import Rate, Spread, percentiles, ratio, spread


def test_spread_is_median_least_and_greatest() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


def test_ratio_is_made_round_by_round() -> None:
    # A round that is slow for both sides says nothing about either.
    assert ratio([20.0, 2.0, 30.0], [10.0, 1.0, 10.0]) == Spread(2.0, 2.0, 3.0)


def test_ratio_wants_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        ratio([1.0, 2.0], [1.0])


def test_percentiles_are_interpolated() -> None:
    assert percentiles([float(value) for value in range(101)]) == (50.0, 95.0, 99.0)
    assert percentiles([2.0, 1.0]) == pytest.approx((1.5, 1.95, 1.99))


def test_rates() -> None:
    rate = Rate(seconds=2.0, cpu_seconds=3.0, num_questions=8, num_sequences=10, num_tokens=500)
    assert (rate.sequences_per_second, rate.tokens_per_second, rate.busy_cpus) == (5.0, 250.0, 1.5)
