"""The simulated fleet against queues whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.simulate_fleet import (
    BALANCERS,
    Times,
    erlang_c,
    formula_p99,
    least_replicas,
    measured_times,
    rates_of_day,
    simulate,
    worst_p99,
)

_LEVELS = (np.arange(5000) + 0.5) / 5000
_EXPONENTIAL = Times(-np.log(1 - _LEVELS) / 10)  # 100 ms on average


@pytest.mark.parametrize(
    ("servers", "load", "want"), [(1, 0.7, 0.7), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9)]
)
def test_erlang_c(servers: int, load: float, want: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(want)


def test_one_replica_is_the_queue_of_the_textbook() -> None:
    # M/M/1: the time from arrival to answer is exponential with the rate mu - lambda.
    exact = -math.log(0.01) / (10 - 6)
    assert formula_p99(6, 1, _EXPONENTIAL, is_general=False) == pytest.approx(exact, rel=0.02)
    for balancer in BALANCERS.values():
        taken = simulate(6, 1, _EXPONENTIAL, balancer, num=200_000, seed=1)
        assert np.quantile(taken, 0.99) == pytest.approx(exact, rel=0.08)
        assert taken.mean() == pytest.approx(1 / (10 - 6), rel=0.05)


def test_who_knows_more_needs_fewer() -> None:
    p99 = {
        name: np.quantile(simulate(60, 10, _EXPONENTIAL, balancer, num=30_000, seed=2), 0.99)
        for name, balancer in BALANCERS.items()
    }
    one_queue = formula_p99(60, 10, _EXPONENTIAL, is_general=False)
    assert one_queue < p99["least busy"] < p99["better of two"] < p99["at random"]


def test_a_day() -> None:
    rates = rates_of_day(100)
    assert rates.max() == rates[15] == 100 and rates.min() == rates[3] == pytest.approx(25)
    times = measured_times()
    arguments = {"num": 2000, "seed": 3}
    assert worst_p99(1000, 20, times, BALANCERS["least busy"], **arguments) == math.inf
    first, again = (worst_p99(50, 4, times, BALANCERS["at random"], **arguments) for _ in range(2))
    assert first == again
    assert times.mean < first < 1


def test_the_fewest_are_found() -> None:
    assert least_replicas(lambda count: 10 / count, 1.0, 1) == 10
    assert least_replicas(lambda count: 10 / count, 0.01, 1) is None
