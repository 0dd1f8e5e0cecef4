"""The simulated service against queues whose answers are known."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from benchmarks.simulate_queue import _SPREAD, simulate

_ONE_MS: dict[str, Any] = {"batched_ms": 10.0, "alone_ms": 10.0, "max_batch_ms": 1e-6, "seed": 1}


def test_one_request_a_batch_is_the_queue_of_the_textbook() -> None:
    # M/G/1 (Pollaczek and Khinchine): the mean wait is rate E[S^2] / (2 (1 - load)).
    rate_ms, second_moment = 0.06, 100 * math.exp(_SPREAD**2)
    want = 10 + rate_ms * second_moment / (2 * (1 - 0.6))
    taken = simulate(rate=60, streams=1, requests=200_000, **_ONE_MS)
    assert statistics.fmean(taken) == pytest.approx(want, rel=0.03)


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_one_that_comes_alone_takes_its_own_time(streams: int) -> None:
    times = {**_ONE_MS, "alone_ms": 14.0}
    taken = simulate(rate=0.01, streams=streams, requests=20_000, **times)
    assert statistics.fmean(taken) == pytest.approx(14, rel=0.01)


def test_streams_do_the_same_work_and_let_fewer_wait() -> None:
    # Just below what the machine can do, both are busy all the time.
    one = simulate(rate=90, streams=1, requests=100_000, **_ONE_MS)
    two = simulate(rate=90, streams=2, requests=100_000, **_ONE_MS)
    assert statistics.fmean(two) == pytest.approx(statistics.fmean(one), rel=0.1)
    dearer = {**_ONE_MS, "alone_ms": 12.0}
    alone = simulate(rate=70, streams=1, requests=100_000, **dearer)
    beside = simulate(rate=70, streams=2, requests=100_000, **dearer)
    assert statistics.quantiles(beside, n=100)[98] < statistics.quantiles(alone, n=100)[98]
