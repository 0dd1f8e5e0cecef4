"""Tests of bert_rt.scheduling.scheduler with an engine that computes step by step."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bert_rt.engines.base import EngineInfo, EngineOptions, Run
from bert_rt.engines.registry import open_engine
from bert_rt.engines.seq2seq.base import Asked as Searched
from bert_rt.engines.seq2seq.generating import hypotheses_of
from bert_rt.engines.watching import BatchRun, WatchedEngine
from bert_rt.errors import DeadlineExceededError, EngineInternalError
from bert_rt.generation.config import GenerationConfig
from bert_rt.scheduling.scheduler import Asked, RequestCancelledError, Scheduler
from bert_rt.tasks.translation.sources import SourceSequence
from bert_rt.types import PER_SEQUENCE, Outputs, PackedBatch, TokenSequence
from tests.support import seq2seq_artifacts
from tests.unit.bert_rt.scheduling.waiting import wait_until

POISON = 666


class CountingRun:
    """Each sequence takes as many steps as its first token says, and gives that number back."""

    def __init__(self, engine: CountingEngine) -> None:
        self.engine = engine
        self.left: dict[int, int] = {}
        self.wanted: list[int] = []

    @property
    def num_free(self) -> int:
        return self.engine.places - len(self.left)

    def join(self, sequences: Sequence[TokenSequence]) -> None:
        for sequence in sequences:
            number = len(self.wanted)
            self.wanted.append(int(sequence.input_ids[0]))
            self.left[number] = self.wanted[-1]

    def leave(self, numbers: Collection[int]) -> None:
        for number in numbers:
            self.left.pop(number, None)

    def step(self) -> Mapping[int, Outputs]:
        engine = self.engine
        assert engine.lock.acquire(blocking=False), "two threads at a time"
        try:
            engine.steps.append(sorted(self.wanted[number] for number in self.left))
            engine.entered.set()
            assert engine.gate.wait(30)
            if engine.interrupts:
                engine.interrupts -= 1
                raise KeyboardInterrupt
            if any(self.wanted[number] == POISON for number in self.left):
                raise EngineInternalError("fake: poisoned")
            for number in self.left:
                self.left[number] -= 1
            done = [number for number, steps in self.left.items() if steps <= 0]
            for number in done:
                del self.left[number]
            return {number: {"n": np.array([self.wanted[number]], np.float32)} for number in done}
        finally:
            engine.lock.release()


class CountingEngine:
    def __init__(self, places: int = 100) -> None:
        self.info = EngineInfo("fake", "1", "cpu", "float32", 1, True)
        self.outputs = {"n": PER_SEQUENCE}
        self.places = places
        self.steps: list[list[int]] = []
        self.num_runs = 0
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.interrupts = 0

    def begin(self) -> Run:
        self.num_runs += 1
        return CountingRun(self)

    def run(self, batch: PackedBatch) -> Outputs:
        raise AssertionError("batches are computed step by step")

    def close(self) -> None:
        """Nothing is held."""


def of(*steps: int) -> list[TokenSequence]:
    return [TokenSequence(np.array([n, 0], np.int32), np.zeros(2, np.int32)) for n in steps]


def scheduler_of(engine: Any, **options: Any) -> Scheduler:
    return Scheduler(engine, **{"max_batch_tokens": 64, "max_queue_tokens": 1000, **options})


def numbers(results: list[Outputs]) -> list[int]:
    return [int(result["n"][0]) for result in results]


def held(
    engine: CountingEngine, scheduler: Scheduler, pool: ThreadPoolExecutor, steps: int
) -> Future[list[Outputs]]:
    """Let a request of so many steps hold the engine until its gate is opened."""
    engine.gate.clear()
    first = pool.submit(scheduler.run, of(steps))
    assert engine.entered.wait(30)
    return first


def test_who_comes_later_joins_and_leaves_first(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine()
    scheduler = scheduler_of(engine)
    long = held(engine, scheduler, pool, 500)
    short = pool.submit(scheduler.run, of(3, 2))
    wait_until(lambda: scheduler.stats.num_requests == 2)
    engine.gate.set()
    assert numbers(short.result(30)) == [3, 2]
    assert numbers(long.result(30)) == [500]
    assert engine.num_runs == 1
    assert engine.steps[1:5] == [[2, 3, 500], [2, 3, 500], [3, 500], [500]]


def test_no_more_join_than_have_a_place(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine(places=2)
    scheduler = scheduler_of(engine)
    first = held(engine, scheduler, pool, 5)
    others = [pool.submit(scheduler.run, of(2)) for _ in range(3)]
    wait_until(lambda: scheduler.stats.num_requests == 4)
    engine.gate.set()
    for future in (first, *others):
        future.result(30)
    assert max(len(step) for step in engine.steps) == 2


def test_a_leader_whose_request_is_done_hands_over(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine()
    scheduler = scheduler_of(engine)
    first = held(engine, scheduler, pool, 2)  # leads
    second = pool.submit(scheduler.run, of(300))
    wait_until(lambda: scheduler.stats.num_requests == 2)
    engine.gate.set()
    assert numbers(first.result(30)) == [2]
    assert numbers(second.result(30)) == [300]
    assert engine.num_runs == 1


def test_a_poisonous_request_fails_alone(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine()
    scheduler = scheduler_of(engine)
    good = [held(engine, scheduler, pool, 5)]
    good += [pool.submit(scheduler.run, of(n)) for n in (3, 8, 20)]
    bad = pool.submit(scheduler.run, of(POISON))
    wait_until(lambda: scheduler.stats.num_requests == 5)
    engine.gate.set()
    assert [numbers(future.result(30)) for future in good] == [[5], [3], [8], [20]]
    with pytest.raises(EngineInternalError, match="poisoned"):
        bad.result(30)
    assert scheduler.stats.num_requests == scheduler.stats.num_tokens == 0


def test_what_nobody_waits_for_leaves_between_steps(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine()
    scheduler = scheduler_of(engine)
    kept = held(engine, scheduler, pool, 1000)
    flag = threading.Event()
    cancelled = pool.submit(scheduler.run, of(10**6), Asked(cancelled=flag))
    late = pool.submit(scheduler.run, of(10**7), Asked(deadline_s=time.monotonic() + 0.2))
    wait_until(lambda: scheduler.stats.num_requests == 3)
    flag.set()
    engine.gate.set()
    with pytest.raises(RequestCancelledError):
        cancelled.result(30)
    assert numbers(kept.result(30)) == [1000]
    with pytest.raises(DeadlineExceededError, match="deadline"):
        late.result(30)
    assert scheduler.stats.num_requests == scheduler.stats.num_tokens == 0
    assert numbers(scheduler.run(of(4))) == [4]


def test_all_that_is_left_may_leave() -> None:
    engine = CountingEngine()
    scheduler = scheduler_of(engine)
    for _ in range(2):
        with pytest.raises(DeadlineExceededError):
            scheduler.run(of(10**9), Asked(deadline_s=time.monotonic() + 0.05))
    assert numbers(scheduler.run(of(3))) == [3]
    assert scheduler.stats.num_requests == 0


def test_an_interrupted_step_begins_anew(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine()
    scheduler = scheduler_of(engine)
    first = held(engine, scheduler, pool, 5)
    second = pool.submit(scheduler.run, of(7))
    wait_until(lambda: scheduler.stats.num_requests == 2)
    engine.interrupts = 1
    engine.gate.set()
    with pytest.raises(KeyboardInterrupt):
        first.result(30)
    assert numbers(second.result(30)) == [7]


def test_random_load_gives_everybody_his_own(pool: ThreadPoolExecutor) -> None:
    engine = CountingEngine(places=7)
    scheduler = scheduler_of(engine)
    rng = random.Random(0)
    asked = [[rng.randint(1, 30) for _ in range(rng.randint(1, 5))] for _ in range(200)]
    futures = [pool.submit(scheduler.run, of(*steps)) for steps in asked]
    assert [numbers(future.result(60)) for future in futures] == asked
    assert max(len(step) for step in engine.steps) <= 7 + 32  # a run begins with a whole batch
    stats = scheduler.stats
    assert stats.num_windows == sum(map(len, asked))
    assert stats.num_requests == stats.num_tokens == 0


def test_a_watched_run_tells_what_was_done() -> None:
    watched = WatchedEngine(CountingEngine())
    told: list[BatchRun] = []
    watched.listeners.append(told.append)
    scheduler_of(watched).run(of(1, 4))
    assert [(run.num_tokens, run.num_sequences) for run in told] == [(2, 1), (2, 1)]
    assert watched.running_s == 0.0


@pytest.mark.parametrize("name", ["native", "onnxruntime"])
def test_a_short_text_is_written_while_a_long_one_is(name: str, pool: ThreadPoolExecutor) -> None:
    artifact = seq2seq_artifacts.make_artifact(is_int8=True)
    engine = open_engine(name, artifact, EngineOptions(num_threads=1))
    scheduler = scheduler_of(engine, max_batch_tokens=512)
    tokens = {"decoder_start_token_id": 2, "eos_token_ids": (3,), "pad_token_id": 0}
    long = GenerationConfig(**tokens, num_beams=3, min_new_tokens=20, max_length=24)
    short = GenerationConfig(**tokens, num_beams=3, max_new_tokens=2)
    sources = seq2seq_artifacts.random_sources(2, seed=5)
    steps: list[str] = []

    def ask(source: Any, search: GenerationConfig, watch: Callable[..., None]) -> list[int]:
        sequence = SourceSequence(source, np.zeros_like(source), 0, 1, Searched(search, watch))
        (outputs,) = scheduler.run([sequence])
        return list(hypotheses_of(outputs)[0].token_ids)

    def let_the_other_come(_: tuple[int, ...]) -> None:
        steps.append("long")
        if len(steps) == 3:
            futures.append(pool.submit(ask, sources[1], short, lambda _: steps.append("short")))
            wait_until(lambda: scheduler.stats.num_requests == 2)

    futures: list[Any] = []
    found = ask(sources[0], long, let_the_other_come)
    (future,) = futures
    assert steps.index("short") < 6
    assert steps[-5:] == ["long"] * 5
    assert future.result(30) == ask(sources[1], short, lambda _: None)
    if name == "native":
        assert found == ask(sources[0], long, lambda _: None)
    scheduler.close()
