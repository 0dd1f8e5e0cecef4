"""Tests of bert_rt.tasks.driver: futures of inputs, and coroutines that wait for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bert_rt import Runtime
from bert_rt.errors import (
    DeadlineExceededError,
    EmptyInputError,
    EngineInternalError,
    EngineUnavailableError,
    OverloadedError,
)
from bert_rt.types import Outputs, PackedBatch

CONTEXT = "Karl von Frisch, who decoded the waggle dance, received the Nobel Prize in 1973."
QUESTION = "Who decoded the waggle dance?"


class GatedEngine:
    """An engine that counts batches, waits while its gate is shut, and fails on one token."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.info, self.outputs = engine.info, engine.outputs
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.num_sequences: list[int] = []
        self.shortest: list[int] = []
        self.poison: int | None = None
        self.is_instant = False

    def run(self, batch: PackedBatch) -> Outputs:
        self.num_sequences.append(batch.num_sequences)
        self.shortest.append(int(np.diff(batch.cu_seqlens).min()))
        self.entered.set()
        assert self.gate.wait(30)
        if self.poison is not None and self.poison in batch.input_ids:
            raise EngineInternalError("fake: poisoned")
        if self.is_instant:
            logits = np.zeros(batch.num_tokens, np.float32)
            return dict.fromkeys(self.outputs, logits)
        outputs: Outputs = self._engine.run(batch)
        return outputs

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime.load(engine="onnxruntime", num_threads=1) as opened:
        yield opened


@pytest.fixture
def engine(runtime: Runtime) -> Iterator[GatedEngine]:
    scheduler = runtime.session._scheduler
    gated = GatedEngine(scheduler._engine)
    scheduler._engine = gated  # type: ignore[assignment]
    yield gated
    gated.gate.set()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.001)


def test_a_future_gives_what_answer_gives(runtime: Runtime) -> None:
    future = runtime.submit((QUESTION, CONTEXT))
    assert future.result(30) == runtime.answer(QUESTION, CONTEXT)
    assert runtime.session.stats.num_requests == 0
    assert runtime.session.stats.num_tokens == 0


def test_coroutines_are_coalesced_without_threads(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()

    async def ask_all() -> list[Any]:
        calls = [runtime.answer_async(QUESTION, CONTEXT) for _ in range(200)]
        waiting = asyncio.gather(*calls)
        await asyncio.sleep(0.05)
        await asyncio.to_thread(engine.entered.wait, 30)
        num_threads = threading.active_count()
        engine.gate.set()
        answers = await waiting
        assert num_threads <= threading.active_count() + 1
        return list(answers)

    before = threading.active_count()
    answers = asyncio.run(ask_all())
    assert {answer.text for answer in answers} == {"Karl von Frisch"}
    assert threading.active_count() <= before + 1
    # Those that arrived behind the first batch are in full ones.
    assert len(engine.num_sequences) < 20
    assert sum(engine.num_sequences) == 200


def test_a_bad_input_fails_alone(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()
    first = runtime.submit((QUESTION, CONTEXT))
    assert engine.entered.wait(30)
    # A context of control characters passes the check and has no token.
    good, bad, last = (
        runtime.submit((QUESTION, context)) for context in (CONTEXT, "\x01\x02", CONTEXT)
    )
    engine.gate.set()
    assert {future.result(30).text for future in (first, good, last)} == {"Karl von Frisch"}
    with pytest.raises(EmptyInputError, match="context: got text without a single token"):
        bad.result(30)
    with pytest.raises(EmptyInputError):
        runtime.submit(("", CONTEXT))
    assert runtime.session.stats.num_tokens == 0


def test_cancelled_requests_are_not_computed(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()
    first = runtime.submit((QUESTION, CONTEXT))
    assert engine.entered.wait(30)
    dropped = [runtime.submit((QUESTION, CONTEXT)) for _ in range(5)]
    assert all(future.cancel() for future in dropped)
    kept = runtime.submit((QUESTION, CONTEXT))
    engine.gate.set()
    assert first.result(30) == kept.result(30)
    assert sum(engine.num_sequences) == 2
    with pytest.raises(CancelledError):
        dropped[0].result(30)
    assert runtime.session.stats.num_requests == runtime.session.stats.num_tokens == 0


def test_a_cancelled_coroutine_drops_its_request(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(runtime.answer_async(QUESTION, CONTEXT), 0.05)

    asyncio.run(give_up())
    engine.gate.set()
    wait_until(lambda: runtime.session.stats.num_requests == 0)
    assert runtime.answer(QUESTION, CONTEXT).text == "Karl von Frisch"


def test_deadlines_pass_while_requests_wait(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()
    first = runtime.submit((QUESTION, CONTEXT))
    assert engine.entered.wait(30)
    late = runtime.submit((QUESTION, CONTEXT), runtime.options(timeout_s=1.0))
    time.sleep(1.01)
    engine.gate.set()
    assert first.result(30).text == "Karl von Frisch"
    with pytest.raises(DeadlineExceededError, match="deadline: passed"):
        late.result(30)
    assert sum(engine.num_sequences) == 1


def test_a_batch_that_fails_is_the_error_of_those_in_it(
    runtime: Runtime, engine: GatedEngine
) -> None:
    engine.poison = int(runtime.session.tokenizer.encode("zebra").input_ids[0])
    with pytest.raises(EngineInternalError, match="fake: poisoned"):
        runtime.submit(("Which zebra?", CONTEXT)).result(30)
    assert runtime.submit((QUESTION, CONTEXT)).result(30).text == "Karl von Frisch"


def test_overload_is_refused_before_anything_is_tokenized(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Runtime.load(engine="onnxruntime", num_threads=1, max_queue_tokens=50) as runtime:
        scheduler = runtime.session._scheduler
        engine = GatedEngine(scheduler._engine)
        scheduler._engine = engine  # type: ignore[assignment]
        engine.gate.clear()
        first = runtime.submit((QUESTION, CONTEXT))
        assert engine.entered.wait(30)
        monkeypatch.setattr(type(runtime.session), "encode", None)
        for ask in (runtime.ask, runtime.submit):
            with pytest.raises(OverloadedError, match="max_queue_tokens = 50"):
                ask((QUESTION, CONTEXT * 10))
        monkeypatch.undo()
        engine.gate.set()
        assert first.result(30).text == "Karl von Frisch"
        assert runtime.session.stats.num_tokens == 0


def test_a_cancelled_future_gives_its_room_back_at_once(
    runtime: Runtime, engine: GatedEngine
) -> None:
    engine.gate.clear()
    first = runtime.submit((QUESTION, CONTEXT))
    assert engine.entered.wait(30)
    before = runtime.session.stats.num_tokens
    waiting = [runtime.submit((QUESTION, CONTEXT)) for _ in range(3)]
    assert runtime.session.stats.num_requests == 4
    assert all(future.cancel() for future in waiting)
    # The engine is still at the first batch, and nobody was woken.
    assert (runtime.session.stats.num_requests, runtime.session.stats.num_tokens) == (1, before)
    engine.gate.set()
    assert first.result(30).text == "Karl von Frisch"


@pytest.mark.parametrize("is_async", [True, False])
def test_a_short_question_beside_bulk_threads_waits_at_most_two_batches(
    runtime: Runtime, engine: GatedEngine, is_async: bool
) -> None:
    num_bulk = 20
    engine.is_instant = True
    engine.gate.clear()
    bulk = [(f"{QUESTION} {i}", CONTEXT * 20) for i in range(40)]
    with ThreadPoolExecutor(num_bulk + 1) as pool:
        futures = [pool.submit(runtime.answer_batch, bulk) for _ in range(num_bulk)]
        wait_until(lambda: runtime.session.stats.num_requests == num_bulk)
        wait_until(lambda: runtime.session.stats.num_tokens > num_bulk * 20_000)
        num_before = len(engine.num_sequences)
        if is_async:
            short = runtime.submit((QUESTION, CONTEXT))
        else:
            short = pool.submit(runtime.answer, QUESTION, CONTEXT)
        wait_until(lambda: runtime.session.stats.num_requests == num_bulk + 1)
        requests = runtime.session._scheduler._queue._ledger.requests
        wait_until(lambda: all(request.is_known for request in requests))
        engine.gate.set()
        assert short.result(60).text
        for future in futures:
            assert len(future.result(120)) == len(bulk)
    (place,) = (index for index, length in enumerate(engine.shortest) if length < 60)
    # The one that ran, one more at most, and its own.
    assert place <= num_before + 1


def test_what_is_urgent_is_computed_first(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()
    first = runtime.submit((QUESTION, CONTEXT))
    assert engine.entered.wait(30)
    engine.is_instant = True
    order: list[str] = []
    options = {name: runtime.options(priority=p) for name, p in (("low", 9), ("high", 1))}
    futures = []
    for name in ("low", "high"):
        for _ in range(3):
            future = runtime.submit((QUESTION, CONTEXT * 60), options[name])
            future.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
            futures.append(future)
    engine.gate.set()
    for future in (first, *futures):
        future.result(60)
    assert order[:2] == ["high", "high"]


def test_a_poisonous_input_fails_alone(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()
    first = runtime.submit((QUESTION, CONTEXT))
    assert engine.entered.wait(30)
    engine.poison = int(runtime.session.tokenizer.encode("zebra").input_ids[0])
    futures = [runtime.submit(("Which zebra?" if i == 7 else QUESTION, CONTEXT)) for i in range(21)]
    engine.gate.set()
    first.result(30)
    errors = [future.exception(60) for future in futures]
    assert [i for i, error in enumerate(errors) if error is not None] == [7]
    assert isinstance(errors[7], EngineInternalError)


def test_what_cannot_be_in_time_is_refused_and_says_when_to_come_again(
    runtime: Runtime, engine: GatedEngine
) -> None:
    runtime.answer(QUESTION, CONTEXT * 3)  # measures
    engine.is_instant = True
    engine.gate.clear()
    engine.entered.clear()
    futures = [runtime.submit((QUESTION, CONTEXT * 60)) for _ in range(10)]
    assert engine.entered.wait(30)
    options = runtime.options(timeout_s=0.01, priority=9)
    with pytest.raises(OverloadedError, match="whose result is predicted in") as caught:
        runtime.submit((QUESTION, CONTEXT), options)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    assert runtime.session.stats.predicted_wait_s > 0
    engine.gate.set()
    for future in futures:
        future.result(60)


def test_a_drained_runtime_ends_what_it_has(runtime: Runtime, engine: GatedEngine) -> None:
    engine.gate.clear()
    futures = [runtime.submit((QUESTION, CONTEXT)) for _ in range(5)]
    assert not runtime.session.drain(timeout_s=0.01)
    for ask in (runtime.submit, runtime.ask):
        with pytest.raises(EngineUnavailableError, match="drained"):
            ask((QUESTION, CONTEXT))
    engine.gate.set()
    assert runtime.session.drain(timeout_s=30)
    assert {future.result(30).text for future in futures} == {"Karl von Frisch"}


def test_an_answer_has_the_same_bits_in_every_company() -> None:
    contexts = [CONTEXT * n for n in (1, 3, 7, 20)]
    pairs = [(QUESTION, context) for context in contexts * 8]
    with Runtime.load(engine="native", num_threads=2, max_batch_ms=5) as runtime:
        want = runtime.answer_batch(pairs)

        async def ask_all() -> list[Any]:
            return list(await asyncio.gather(*(runtime.ask_async(pair) for pair in pairs)))

        assert asyncio.run(ask_all()) == want


def test_threads_and_coroutines_share_the_engine(runtime: Runtime) -> None:
    want = runtime.answer(QUESTION, CONTEXT)
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(runtime.answer(QUESTION, CONTEXT)))
        for _ in range(8)
    ]

    async def ask_all() -> list[Any]:
        for thread in threads:
            thread.start()
        return list(
            await asyncio.gather(*(runtime.answer_async(QUESTION, CONTEXT) for _ in range(50)))
        )

    got = asyncio.run(ask_all())
    for thread in threads:
        thread.join()
    assert {answer.text for answer in (*got, *answers)} == {want.text}
    assert len(got) + len(answers) == 58


def test_a_closed_runtime_says_so(runtime: Runtime) -> None:
    runtime.close()
    with pytest.raises(EngineUnavailableError, match="is closed"):
        runtime.submit((QUESTION, CONTEXT)).result(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_starts_a_thread_of_its_own(runtime: Runtime) -> None:
    assert runtime.submit((QUESTION, CONTEXT)).result(30).text == "Karl von Frisch"
    program = """
import os, sys
from bert_rt import Runtime
runtime = Runtime.load(num_threads=1)
pair = (sys.argv[1], sys.argv[2])
want = runtime.submit(pair).result(60)
pid = os.fork()
if pid == 0:
    os._exit(0 if runtime.submit(pair).result(60) == want else 1)
assert os.waitpid(pid, 0)[1] == 0
runtime.submit(pair)  # the interpreter ends while it runs
"""
    done = subprocess.run(
        [sys.executable, "-c", program, QUESTION, CONTEXT],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
