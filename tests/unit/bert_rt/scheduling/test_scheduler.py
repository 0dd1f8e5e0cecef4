"""Tests of bert_rt.scheduling.scheduler, with an engine that only counts."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bert_rt.engines.base import EngineInfo
from bert_rt.errors import (
    DeadlineExceededError,
    EngineInternalError,
    EngineUnavailableError,
    InputTooLongError,
    OverloadedError,
)
from bert_rt.scheduling.scheduler import Asked, RequestCancelledError, Scheduler
from bert_rt.types import PER_SEQUENCE, PER_TOKEN, Feature, Outputs, PackedBatch
from tests.unit.bert_rt.scheduling.waiting import wait_until

POISON = 666  # a token that makes the engine fail


class FakeEngine:
    """Start logits are ids, end logits are token types; waits at the gate while it is shut."""

    def __init__(self, *, is_packed: bool = False, classifies: bool = False) -> None:
        self.info = EngineInfo("fake", "1", "cpu", "float32", 1, is_packed)
        self.classifies = classifies
        spans = {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}
        self.outputs = {"logits": PER_SEQUENCE} if classifies else spans
        self.batches: list[list[int]] = []
        self.logit_ranges: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.num_inside = 0
        self.is_closed = False
        self.interrupts = 0

    def run(self, batch: PackedBatch) -> Outputs:
        self.num_inside += 1
        assert self.num_inside == 1, "two threads at a time"
        try:
            self.batches.append(np.diff(batch.cu_seqlens).tolist())
            self.logit_ranges.append(batch.logit_ranges)
            self.entered.set()
            assert self.gate.wait(30)
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt
            if POISON in batch.input_ids:
                raise EngineInternalError("fake: poisoned")
            if self.classifies:
                first = batch.input_ids[batch.cu_seqlens[:-1]]
                return {"logits": first[:, None].astype(np.float32)}
            ids, types = batch.input_ids, batch.token_type_ids
            return {
                "start_logits": ids.astype(np.float32),
                "end_logits": types.astype(np.float32),
            }
        finally:
            self.num_inside -= 1

    def close(self) -> None:
        self.is_closed = True


def window(length: int, first: int = 1) -> Feature:
    """Return a window of consecutive ids."""
    ids = np.arange(first, first + length, dtype=np.int32)
    view = np.ones(max(length - 3, 0), np.bool_)
    return Feature(ids, np.zeros(length, np.int32), 0, 2, 0, length - 3, view)


DEFAULTS: dict[str, Any] = {"max_batch_tokens": 32, "max_queue_tokens": 1000}


@pytest.fixture(autouse=True, params=[0, 2], ids=["leader computes", "thread computes"])
def _engine_nice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEFAULTS, "engine_nice", request.param)


def scheduler_of(engine: FakeEngine, **options: Any) -> Scheduler:
    return Scheduler(engine, **{**DEFAULTS, **options})


def starts(results: list[Outputs]) -> list[list[int]]:
    assert all(not result["end_logits"].any() for result in results)
    return [list(result["start_logits"].astype(int)) for result in results]


def occupied(
    engine: FakeEngine, scheduler: Scheduler, pool: ThreadPoolExecutor
) -> Future[list[Outputs]]:
    """Let one request hold the engine until its gate is opened."""
    engine.gate.clear()
    engine.entered.clear()
    first = pool.submit(scheduler.run, [window(4)])
    assert engine.entered.wait(30)
    return first


@pytest.mark.parametrize("is_packed", [False, True])
def test_results_come_back_in_order(is_packed: bool) -> None:
    engine = FakeEngine(is_packed=is_packed)
    features = [window(length, 100 * length) for length in (3, 30, 9, 16, 16, 5)]
    results = scheduler_of(engine).run(features)
    assert starts(results) == [feature.input_ids.tolist() for feature in features]
    if is_packed:
        assert engine.batches == [[3], [30], [9, 16], [16, 5]]
    else:
        assert engine.batches == [[30], [16, 16], [9, 5, 3]]


def test_class_logits_are_split_by_sequence() -> None:
    engine = FakeEngine(classifies=True)
    results = scheduler_of(engine).run([window(4, 7), window(5, 9)])
    assert [(*r, r["logits"].tolist()) for r in results] == [("logits", [7.0]), ("logits", [9.0])]


def test_no_windows_are_no_work() -> None:
    engine = FakeEngine()
    assert scheduler_of(engine).run([]) == []
    assert engine.batches == []


def test_a_window_longer_than_a_batch_is_refused() -> None:
    with pytest.raises(InputTooLongError, match="got 33 tokens"):
        scheduler_of(FakeEngine()).run([window(33)])


def test_concurrent_requests_are_coalesced(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    others = [pool.submit(scheduler.run, [window(4, 10 * i)]) for i in range(1, 17)]
    wait_until(lambda: scheduler.stats.num_requests == 17)
    engine.gate.set()
    assert starts(first.result(30)) == [[1, 2, 3, 4]]
    for i, other in enumerate(others, start=1):
        assert starts(other.result(30)) == [list(range(10 * i, 10 * i + 4))]
    assert engine.batches == [[4], [4] * 8, [4] * 8]


def test_a_small_request_does_not_wait_for_a_large_one(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    large = pool.submit(scheduler.run, [window(32)] * 20)
    wait_until(lambda: scheduler.stats.num_requests == 2)
    small = pool.submit(scheduler.run, [window(5)])
    wait_until(lambda: scheduler.stats.num_requests == 3)
    engine.gate.set()
    for future in (first, small, large):
        future.result(30)
    assert engine.batches.index([5]) <= 2


def test_a_poisonous_request_fails_alone(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine, max_batch_tokens=100)
    first = occupied(engine, scheduler, pool)
    good = [pool.submit(scheduler.run, [window(4, 10 * i)]) for i in range(1, 11)]
    wait_until(lambda: scheduler.stats.num_requests == 11)
    poisoned = pool.submit(scheduler.run, [window(4, POISON), window(4)])
    wait_until(lambda: scheduler.stats.num_requests == 12)
    more = [pool.submit(scheduler.run, [window(4, 10 * i)]) for i in range(11, 21)]
    wait_until(lambda: scheduler.stats.num_requests == 22)
    engine.gate.set()
    first.result(30)
    with pytest.raises(EngineInternalError, match="fake: poisoned"):
        poisoned.result(30)
    for i, future in enumerate([*good, *more], start=1):
        assert starts(future.result(30)) == [list(range(10 * i, 10 * i + 4))]
    # One batch failed, and its requests were run again by themselves; nothing else was.
    assert engine.batches[:2] == [[4], [4] * 22]
    assert sorted(engine.batches[2:]) == [*[[4]] * 20, [4, 4]]
    assert scheduler.stats.num_tokens == 0


def test_an_engine_that_is_gone_fails_everybody_at_once(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    others = [pool.submit(scheduler.run, [window(4)]) for _ in range(3)]
    wait_until(lambda: scheduler.stats.num_requests == 4)

    def gone(batch: PackedBatch) -> Outputs:
        engine.batches.append([-1])
        raise EngineUnavailableError("fake: forked")

    engine.run = gone  # type: ignore[method-assign]
    engine.gate.set()
    first.result(30)
    for future in others:
        with pytest.raises(EngineUnavailableError, match="fake: forked"):
            future.result(30)
    assert engine.batches == [[4], [-1]]


def test_an_error_of_another_kind_becomes_an_engine_error() -> None:
    engine = FakeEngine()
    engine.run = lambda batch: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(EngineInternalError, match="division by zero"):
        scheduler_of(engine).run([window(3)])


def test_overload_is_refused_at_admission(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine, max_queue_tokens=10)
    first = occupied(engine, scheduler, pool)
    second = pool.submit(scheduler.run, [window(6)])
    wait_until(lambda: scheduler.stats.num_requests == 2)
    with pytest.raises(OverloadedError, match="got a request of 1 tokens while 10 are waiting"):
        scheduler.run([window(1)])
    engine.gate.set()
    first.result(30)
    second.result(30)
    # Alone, a request may be larger than the queue.
    assert len(scheduler.run([window(8)] * 4)) == 4


def test_deadlines_of_leader_and_follower(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    with pytest.raises(DeadlineExceededError, match="0 of 1 windows done"):
        scheduler.run([window(3)], Asked(deadline_s=time.monotonic() - 1))
    first = occupied(engine, scheduler, pool)
    start = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        scheduler.run([window(3)], Asked(deadline_s=time.monotonic() + 0.05))
    assert time.monotonic() - start < 10
    engine.gate.set()
    first.result(30)
    assert engine.batches == [[4]]  # what was given up is not computed


def test_a_cancelled_request_is_dropped(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    cancelled = threading.Event()
    second = pool.submit(scheduler.run, [window(9)], Asked(cancelled=cancelled))
    third = pool.submit(scheduler.run, [window(7)])
    wait_until(lambda: scheduler.stats.num_requests == 3)
    cancelled.set()
    engine.gate.set()
    first.result(30)
    third.result(30)
    with pytest.raises(RequestCancelledError):
        second.result(30)
    assert engine.batches == [[4], [7]]


def test_an_interrupted_leader_hands_over(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    engine.interrupts = 2
    others = [pool.submit(scheduler.run, [window(5, 10 * i)]) for i in range(1, 5)]
    wait_until(lambda: scheduler.stats.num_requests == 5)
    engine.gate.set()
    with pytest.raises(KeyboardInterrupt):
        first.result(30)
    outcomes = [future.exception(30) for future in others]
    assert [type(outcome) for outcome in outcomes if outcome] == [KeyboardInterrupt]
    assert scheduler.stats.num_tokens == 0


def test_random_load_gives_everybody_his_own(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine, max_queue_tokens=10**6)

    def work(seed: int) -> bool:
        random = np.random.default_rng(seed)
        for _ in range(20):
            lengths = random.integers(1, 33, random.integers(1, 6)).tolist()
            features = [window(n, int(random.integers(1000, 9000))) for n in lengths]
            if starts(scheduler.run(features)) != [f.input_ids.tolist() for f in features]:
                return False
        return True

    assert all(pool.map(work, range(16)))
    assert scheduler.stats.num_tokens == 0
    assert scheduler.stats.num_requests == 0


def test_close_waits_for_the_batch_and_fails_the_rest(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    closing = pool.submit(scheduler.close)
    assert not engine.is_closed
    engine.gate.set()
    first.result(30)
    closing.result(30)
    assert engine.is_closed
    scheduler.close()
    with pytest.raises(EngineUnavailableError, match="closed"):
        scheduler.run([window(3)])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_starts_with_an_empty_queue(pool: ThreadPoolExecutor) -> None:
    engine = FakeEngine()
    scheduler = scheduler_of(engine)
    first = occupied(engine, scheduler, pool)
    pid = os.fork()
    if pid == 0:
        # The parent's leader does not exist here.
        signal.alarm(20)
        engine.num_inside = 0
        engine.gate = threading.Event()
        engine.gate.set()
        is_right = starts(scheduler.run([window(3)])) == [[1, 2, 3]]
        os._exit(0 if is_right else 1)
    assert os.waitpid(pid, 0)[1] == 0
    engine.gate.set()
    assert starts(first.result(30)) == [[1, 2, 3, 4]]


def test_engines_learn_which_logits_are_read() -> None:
    engine = FakeEngine(is_packed=True)
    scheduler_of(engine).run([window(5), window(8)])
    (ranges,) = engine.logit_ranges
    assert ranges.tolist() == [[2, 4], [2, 7]]
