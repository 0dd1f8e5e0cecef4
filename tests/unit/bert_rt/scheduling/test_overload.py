"""The queue under more load than its engine can bear, simulated."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from bert_rt.errors import (
    OverloadedError,
)
from bert_rt.scheduling.requests import Asked, Request
from tests.unit.bert_rt.scheduling.simulation import TOKENS_PER_S, Simulation, windows


def arrivals(random_: random.Random, per_s: float) -> Iterator[float]:
    return itertools.accumulate(random_.expovariate(per_s) for _ in itertools.count())


def overloaded(factor: float, timeouts: Sequence[float], seed: int) -> tuple[Simulation, float]:
    """Give a queue factor times what its engine can do, for 60 s.

    Returns the simulation, and the share of the capacity that went into results in time.
    """
    random_ = random.Random(seed)
    simulation = Simulation()
    simulation.noise = 0.1
    simulation.ask(*[200] * 20)
    simulation.run()
    start, num_in_time = simulation.now, 0
    ends: list[tuple[Request, float]] = []
    for arrival in arrivals(random_, factor * TOKENS_PER_S / 200):
        if arrival > 60:
            break
        while simulation.now < start + arrival:
            if simulation.step() is None:
                simulation.now = start + arrival
        length, timeout_s = random_.randint(50, 350), random_.choice(timeouts)
        deadline_s = start + arrival + timeout_s
        wanted = Asked(deadline_s=deadline_s)
        try:  # It came while the batch ran; the clock is at the batch's end already.
            request = simulation.queue.submit(
                length,
                simulation.now,
                wanted,
                on_done=lambda done: ends.append((done, simulation.now)),
            )
        except OverloadedError:
            continue
        simulation.queue.fill(request, windows(length))
    simulation.run()
    for request, end in ends:
        if request.error is None and end <= request.asked.deadline_s:
            num_in_time += sum(request.lengths)
    return simulation, num_in_time / (TOKENS_PER_S * (simulation.now - start))


@pytest.mark.parametrize("timeouts", [[1.0], [2.0], [0.7, 1.0, 3.0, 10.0]])
@pytest.mark.timeout(120)
def test_under_twice_the_load_work_is_done_for_those_who_wait(timeouts: list[float]) -> None:
    simulation, share = overloaded(2.0, timeouts, seed=1)
    stats = simulation.queue.stats(simulation.now)
    assert share > 0.95
    assert stats.num_unwanted_windows <= 0.02 * stats.num_windows
    assert stats.num_requests == stats.num_tokens == 0
    assert stats.num_batch_tokens / stats.num_batches > 0.8 * 4096
