"""Tests of bert_rt.scheduling.queue, driven by a clock that only the tests move."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_rt.engines.packing import plan_batches
from bert_rt.errors import (
    DeadlineExceededError,
    EngineInternalError,
    EngineUnavailableError,
    InputTooLongError,
    OverloadedError,
)
from bert_rt.scheduling.requests import Asked, RequestCancelledError
from tests.unit.bert_rt.scheduling.simulation import Simulation, queue_of, windows


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=60),
    is_packed=st.booleans(),
)
def test_a_lone_request_makes_the_batches_of_plan_batches(
    lengths: list[int], is_packed: bool
) -> None:
    simulation = Simulation(max_batch_tokens=64, is_packed=is_packed)
    request = simulation.ask(*lengths)
    simulation.run()
    got = [[index for _, index in batch] for batch in simulation.batches]
    assert got == plan_batches(lengths, max_tokens=64, is_packed=is_packed)
    assert [int(output["n"][0]) for output in request.result()] == list(range(len(lengths)))


def test_a_request_without_windows_is_done_at_once() -> None:
    simulation = Simulation()
    assert simulation.ask().result() == []
    assert simulation.step() is None
    assert simulation.queue.is_empty


def test_a_window_longer_than_a_batch_is_refused() -> None:
    queue = queue_of(max_batch_tokens=32)
    request = queue.submit(33, 0.0)
    with pytest.raises(InputTooLongError, match=r"lengths\[1\]: got 33 tokens, want at most"):
        queue.fill(request, windows(1, 33))
    queue.cancel(request)
    assert queue.stats(0.0).num_tokens == 0


# Shares.


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("named", [False, True])
def test_a_short_question_beside_bulk_clients_waits_at_most_two_batches(
    is_packed: bool, named: bool
) -> None:
    simulation = Simulation(is_packed=is_packed)
    for index in range(20):
        simulation.ask(*[384] * 1000, client=index if named else None)
    waits = []
    for _ in range(90):
        running = simulation.begin()
        assert running is not None
        short = simulation.ask(250)
        simulation.end(running)
        begun = len(simulation.batches)
        while not short.is_done:
            simulation.step()
        waits.append(len(simulation.batches) - begun)  # the one that ran, in place of its own
    assert max(waits) <= 2
    assert sum(waits) / len(waits) < 1.2


def test_batches_are_full_while_many_wait() -> None:
    random_ = random.Random(3)
    for is_packed, share in ((True, 0.9), (False, 0.85)):
        simulation = Simulation(is_packed=is_packed)
        for _ in range(400):
            simulation.ask(*[random_.randint(60, 384) for _ in range(random_.randint(1, 3))])
        simulation.run()
        sums = [sum(batch) for batch in simulation.lengths()[:-1]]
        assert sum(sums) / len(sums) > share * 4096


def test_clients_share_the_engine_however_many_requests_they_have() -> None:
    simulation = Simulation(max_batch_tokens=1000)
    many = [simulation.ask(100, client="many") for _ in range(200)]
    few = [simulation.ask(100, client="few") for _ in range(20)]
    while not all(request.is_done for request in few):
        simulation.step()
    # As many of the one as of the other, but for a batch.
    assert sum(request.is_done for request in many) <= 30
    simulation.run()
    assert all(request.is_done for request in many)


def test_a_client_cannot_gain_by_coming_again_and_again() -> None:
    simulation = Simulation(max_batch_tokens=1000)
    bulk = simulation.ask(*[100] * 1000, client="bulk")
    num_again = 0
    for _ in range(40):
        request = simulation.ask(*[100] * 10, client="again")
        while not request.is_done:
            simulation.step()
        num_again += 10
    assert 0.8 < num_again / (1000 - len(bulk.waiting)) < 1.25


def test_nobody_starves_within_a_priority() -> None:
    simulation = Simulation(max_batch_tokens=1000)
    bulk = simulation.ask(*[500] * 20)
    for _ in range(60):
        simulation.ask(*[90] * 10)  # nearly a batch, ever again
        simulation.step()
    assert bulk.is_done or len(bulk.results) > 5


def test_higher_priorities_go_first() -> None:
    simulation = Simulation(max_batch_tokens=100)
    asked = {p: simulation.ask(*[100] * 3, priority=p) for p in (9, 0, 1, 5, 4)}
    simulation.run()
    order = [request for batch in simulation.batches for request, _ in batch]
    assert order[:6] == [asked[1]] * 3 + [asked[4]] * 3
    assert {*order[6:12]} == {asked[0], asked[5]}  # 0 stands for 5
    assert order[12:] == [asked[9]] * 3


def test_the_earlier_deadline_goes_first_within_a_client_and_among_the_like() -> None:
    for client in (None, "one"):
        simulation = Simulation(max_batch_tokens=100)
        late, soon, never = (
            simulation.ask(100, client=client, **asked)
            for asked in ({"timeout_s": 9.0}, {"timeout_s": 5.0}, {})
        )
        simulation.run()
        assert [batch[0][0] for batch in simulation.batches] == [soon, late, never]


# Admission.


def test_admission_counts_tokens_and_is_corrected() -> None:
    queue = queue_of(max_queue_tokens=100)
    first = queue.submit(90, 0.0)
    with pytest.raises(OverloadedError, match="got a request of 20 tokens while 90 are waiting"):
        queue.submit(20, 0.0)
    queue.fill(first, windows(40, 30))
    assert queue.stats(0.0).num_tokens == 70
    second = queue.submit(20, 0.0)
    queue.cancel(first)  # at once, whoever sleeps
    assert (queue.stats(0.0).num_tokens, queue.stats(0.0).num_requests) == (20, 1)
    with pytest.raises(RequestCancelledError):
        first.result()
    queue.cancel(second)
    queue.submit(10**6, 0.0)  # alone, a request may be larger than the queue


def test_room_held_by_the_cancelled_and_the_late_is_free() -> None:
    class Flag:
        def is_set(self) -> bool:
            return True

    queue = queue_of(max_queue_tokens=100)
    cancelled = queue.submit(50, 0.0, Asked(cancelled=Flag()))
    late = queue.submit(50, 0.0, Asked(deadline_s=1.0))
    queue.submit(100, 2.0)
    assert cancelled.is_done
    assert late.is_done
    with pytest.raises(DeadlineExceededError, match="deadline: passed before it was tokenized"):
        late.result()


def test_what_cannot_be_in_time_is_refused_and_says_when_to_come_again() -> None:
    simulation = Simulation()
    simulation.ask(*[400] * 10)
    simulation.run()  # measures
    simulation.ask(*[400] * 100, client="bulk")  # 4 s
    for _ in range(30):
        simulation.ask(400)  # 1.2 s
    with pytest.raises(OverloadedError, match=r"got 1\.000 s for a request whose result") as caught:
        simulation.ask(400, timeout_s=1.0)
    after_s = caught.value.retry_after_s
    assert after_s is not None
    assert 0 < after_s < 4
    simulation.ask(400, timeout_s=1.0, priority=1)  # nobody is before it
    end = simulation.now + after_s
    while simulation.now < end:
        simulation.step()
    simulation.ask(400, timeout_s=1.0)


def test_bulk_work_does_not_make_a_short_question_look_late() -> None:
    simulation = Simulation()
    for _ in range(20):
        simulation.ask(*[400] * 100)
    simulation.step()
    assert simulation.ask(200, timeout_s=1.0) is not None
    assert simulation.queue.stats(simulation.now).predicted_wait_s < 1.0
    simulation.run()


def test_a_lone_request_is_always_tried() -> None:
    simulation = Simulation()
    simulation.ask(4000)
    simulation.run()
    request = simulation.ask(4000, timeout_s=0.01)
    simulation.run()
    assert request.result()  # late, but nobody else wanted the engine


def test_a_drained_queue_computes_what_it_has() -> None:
    simulation = Simulation()
    request = simulation.ask(10)
    simulation.queue.drain()
    with pytest.raises(EngineUnavailableError, match="drained"):
        simulation.ask(10)
    assert not simulation.queue.is_empty
    simulation.run()
    assert request.result()
    assert simulation.queue.is_empty


# Failures.


def test_a_poisonous_request_fails_alone() -> None:
    simulation = Simulation()
    good = [simulation.ask(100, 20) for _ in range(10)]
    poisoned = simulation.ask(100)
    good += [simulation.ask(100) for _ in range(10)]
    simulation.poison.add(poisoned)
    simulation.run()
    assert all(request.result() for request in good)
    with pytest.raises(EngineInternalError, match="poisoned"):
        poisoned.result()
    assert len(simulation.batches) == 1 + 21


def test_a_request_that_is_cancelled_while_its_batch_fails_stays_cancelled() -> None:
    simulation = Simulation()
    first, second = simulation.ask(100), simulation.ask(100)
    simulation.poison.add(first)
    batch = simulation.begin()
    assert batch is not None
    simulation.queue.cancel(first)
    simulation.end(batch)
    simulation.run()
    assert second.result()
    with pytest.raises(RequestCancelledError):
        first.result()


def test_a_batch_that_is_put_back_comes_next() -> None:
    simulation = Simulation()
    first = simulation.ask(100)
    batch = simulation.begin()
    assert batch is not None
    other = simulation.ask(100, priority=1)
    simulation.queue.put_back(batch)
    simulation.run()
    assert simulation.batches[1] == [(first, 0)]
    assert other.result()


# Ceilings.


def test_batches_keep_a_ceiling_in_milliseconds() -> None:
    simulation = Simulation(max_batch_s=0.1)  # a thousand tokens
    simulation.ask(*[90] * 400)
    simulation.run()
    sums = [sum(batch) for batch in simulation.lengths()]
    assert sums[0] == 90  # nothing is measured yet
    assert max(sums) <= 1000
    assert min(sums[5:-1]) >= 900


def test_one_batch_that_hangs_does_not_stop_the_service() -> None:
    simulation = Simulation()
    for _ in range(10):
        simulation.ask(*[400] * 10)
    simulation.run()
    simulation.ask(400)
    batch = simulation.begin()
    assert batch is not None
    simulation.now += 60.0  # the machine slept
    simulation.end(batch)
    requests = [simulation.ask(100, timeout_s=1.0) for _ in range(10)]
    simulation.run()
    assert all(request.result() for request in requests)


# Deferred requests.


def test_deferred_requests_are_given_out_in_their_order_and_once() -> None:
    queue = queue_of(max_batch_tokens=100)
    slow = [queue.submit(60, 0.0, is_deferred=True) for _ in range(10)]
    urgent = queue.submit(60, 0.0, Asked(priority=1), is_deferred=True)
    taken = queue.take_deferred(0.0)
    assert taken[0] is urgent
    assert taken[1:] == slow[: len(taken) - 1]
    assert len(taken) < 5  # what is far from its turn is not tokenized yet
    assert queue.next_batch(0.0) is None
    assert not {*taken} & {*queue.take_deferred(0.0)}


def test_a_deferred_request_is_given_out_beside_bulk_work() -> None:
    queue = queue_of()
    for _ in range(20):
        queue.fill(queue.submit(10**5, 0.0), windows(*[384] * 260))
    short = queue.submit(100, 0.0, is_deferred=True)
    assert queue.take_deferred(0.0) == [short]
    queue.fill(short, windows(120))
    batch = queue.next_batch(0.0)
    assert batch is not None
    assert short in batch.requests
