"""Tests of bert_rt.tasks.driver: futures of inputs, and coroutines that wait for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

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
        self.poison: int | None = None

    def run(self, batch: PackedBatch) -> Outputs:
        self.num_sequences.append(batch.num_sequences)
        self.entered.set()
        assert self.gate.wait(30)
        if self.poison is not None and self.poison in batch.input_ids:
            raise EngineInternalError("fake: poisoned")
        outputs: Outputs = self._engine.run(batch)
        return outputs

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime.load(engine="onnxruntime", num_threads=1) as opened:
        yield opened


@pytest.fixture
def engine(runtime: Runtime) -> GatedEngine:
    scheduler = runtime.session._scheduler
    scheduler._engine = GatedEngine(scheduler._engine)  # type: ignore[assignment]
    return scheduler._engine  # type: ignore[return-value]


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
