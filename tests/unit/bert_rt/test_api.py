"""Tests of bert_rt.api: one Runtime, many threads, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import math
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bert_rt import Runtime
from bert_rt.api import Runtime as Home
from bert_rt.errors import (
    ArtifactNotFoundError,
    ConfigError,
    DeadlineExceededError,
    EmptyInputError,
    EngineUnavailableError,
    InputError,
)
from bert_rt.model.config import to_dict
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.registry import TASKS
from bert_rt.types import Answer
from tests.support.artifacts import CONFIG, LIMITS, PAIRS, write_tiny_artifact

ENGINES = [
    name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name) is not None
]


@pytest.fixture(scope="module")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "artifact"
    write_tiny_artifact(path)
    return path


@pytest.fixture(scope="module", params=ENGINES)
def runtime(artifact_dir: Path, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    with Runtime.load(artifact_dir, engine=request.param, num_threads=2) as opened:
        yield opened


def spans(answers: list[Answer]) -> list[tuple[str, int, int]]:
    return [(answer.text, answer.start, answer.end) for answer in answers]


def test_the_package_and_the_module_name_one_class() -> None:
    assert Runtime is Home


def test_an_answer_is_a_slice_of_the_context(runtime: Runtime) -> None:
    for question, context in PAIRS:
        answer = runtime.answer(question=question, context=context, top_k=3)
        for each in (answer, *answer.alternatives):
            assert each.text
            assert context[each.start : each.end] == each.text
            assert 0 < each.score <= 1
        assert len(answer.alternatives) == 2
        assert answer.score >= answer.alternatives[0].score >= answer.alternatives[1].score


def test_batched_streamed_and_single_answers_are_equal(runtime: Runtime) -> None:
    single = [runtime.answer(question=question, context=context) for question, context in PAIRS]
    assert spans(runtime.answer_batch(PAIRS)) == spans(single)
    assert spans(list(runtime.stream(iter(PAIRS)))) == spans(single)
    for got, want in zip(runtime.answer_batch(PAIRS), single, strict=True):
        assert got.logit == pytest.approx(want.logit, abs=1e-4)
        assert got.score == pytest.approx(want.score, rel=1e-4)


def test_sixteen_threads_get_what_one_gets(runtime: Runtime) -> None:
    want = {pair: runtime.answer(question=pair[0], context=pair[1]) for pair in PAIRS}

    def work(seed: int) -> bool:
        mine = random.Random(seed)
        for _ in range(10):
            pairs = mine.choices(PAIRS, k=mine.randint(1, 4))
            if spans(runtime.answer_batch(pairs)) != spans([want[pair] for pair in pairs]):
                return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_any_number_of_threads_gives_the_same_answers(runtime: Runtime, artifact_dir: Path) -> None:
    with Runtime.load(artifact_dir, engine=runtime.info.name, num_threads=1) as single:
        assert single.info.num_threads == 1
        assert spans(single.answer_batch(PAIRS)) == spans(runtime.answer_batch(PAIRS))


def test_a_batch_is_checked_before_it_is_computed(runtime: Runtime) -> None:
    with pytest.raises(EmptyInputError, match=r"pairs\[5\]\.context: got ''"):
        runtime.answer_batch([*PAIRS, ("who", "")])
    with pytest.raises(EmptyInputError, match=r"^question: got '  '"):
        runtime.answer(question="  ", context="x")


@pytest.mark.parametrize("top_k", [0, -1, True, 1.0, 10_001])
def test_a_wrong_top_k_is_refused(runtime: Runtime, top_k: Any) -> None:
    with pytest.raises(InputError, match="top_k: got"):
        runtime.answer(question="who", context="x", top_k=top_k)
    with pytest.raises(InputError, match="top_k: got"):
        runtime.stream([], top_k=top_k)


@pytest.mark.parametrize("priority", [-1, 10, True, 1.0, "1"])
def test_a_wrong_priority_is_refused(runtime: Runtime, priority: Any) -> None:
    with pytest.raises(InputError, match=r"priority: got .*, want an integer from 1 \(the highest"):
        runtime.options(priority=priority)


def test_a_client_is_hashable(runtime: Runtime) -> None:
    with pytest.raises(InputError, match="client: got a list, want a hashable value"):
        runtime.options(client=[1])  # type: ignore[arg-type]
    options = runtime.options(client=("tenant", 3), priority=1)
    assert runtime.submit(PAIRS[0], options).result(30) == runtime.ask(PAIRS[0], options)


@pytest.mark.parametrize("most", [0, -1.0, math.inf, math.nan, True, "20"])
def test_a_wrong_max_batch_ms_is_refused(artifact_dir: Path, most: Any) -> None:
    with pytest.raises(ConfigError, match=r"max_batch_ms: got .*, want a number above 0, or None"):
        Runtime.load(artifact_dir, engine="onnxruntime", max_batch_ms=most)


@pytest.mark.parametrize("nice", [-1, 20, True, 1.0, "5"])
def test_a_wrong_engine_nice_is_refused(artifact_dir: Path, nice: Any) -> None:
    with pytest.raises(ConfigError, match=r"engine_nice: got .*, want an integer from 0 to 19"):
        Runtime.load(artifact_dir, engine="onnxruntime", engine_nice=nice)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux only")
@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_threads_that_compute_give_way(engine: str) -> None:
    def nice_values() -> Counter[int]:
        found: Counter[int] = Counter()
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                found[os.getpriority(os.PRIO_PROCESS, int(task.name))] += 1
        return found

    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    lowered = min(ours + 3, 19)
    end = time.monotonic() + 30
    while nice_values()[lowered]:  # threads of a closed Runtime end soon, but not at once
        assert time.monotonic() < end
        time.sleep(0.01)
    with Runtime.load(engine=engine, num_threads=2, engine_nice=3) as runtime:
        answers = runtime.answer_batch(PAIRS)
        # One that is called, and the engine's second one.
        assert nice_values()[lowered] >= 2
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours
        with Runtime.load(engine=engine, num_threads=2) as other:
            assert other.answer_batch(PAIRS) == answers
        with pickle.loads(pickle.dumps(runtime)) as same:
            assert same.answer_batch(PAIRS) == answers


@pytest.mark.parametrize("most", [-0.01, 1.01, float("nan"), True, "0.5"])
def test_a_wrong_max_overlap_is_refused(runtime: Runtime, most: Any) -> None:
    with pytest.raises(InputError, match=r"max_overlap: got .*, want a number from 0 to 1"):
        runtime.answer(question="who", context="x", max_overlap=most)
    with pytest.raises(InputError, match="max_overlap: got"):
        runtime.stream([], max_overlap=most)


def test_answers_that_do_not_overlap(runtime: Runtime) -> None:
    asked: dict[str, Any] = {"top_k": 5, "max_overlap": 0.0}
    batch = runtime.answer_batch(PAIRS, **asked)
    assert spans(list(runtime.stream(PAIRS, **asked))) == spans(batch)
    for (question, context), answer in zip(PAIRS, batch, strict=True):
        found = sorted((one.start, one.end) for one in (answer, *answer.alternatives))
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(found))
        single = runtime.answer(question=question, context=context, **asked)
        later = asyncio.run(runtime.answer_async(question=question, context=context, **asked))
        for other in (single, later):
            assert spans(list(other.alternatives)) == spans(list(answer.alternatives))
        usual = runtime.answer(question=question, context=context, top_k=5)
        assert spans([usual]) == spans([answer])


def test_the_artifacts_temperature_is_used(runtime: Runtime, tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "cooled", score_temperature=2.5)
    want = runtime.answer_batch(PAIRS, top_k=3)
    with Runtime.load(tmp_path / "cooled", engine=runtime.info.name) as cooled:
        got = cooled.answer_batch(PAIRS, top_k=3)
        assert cooled.options().score_temperature == 2.5
        single = cooled.answer(question=PAIRS[0][0], context=PAIRS[0][1])
        assert single.score == pytest.approx(got[0].score, rel=1e-4)
    for one, other in zip(got, want, strict=True):
        assert spans([one, *one.alternatives]) == spans([other, *other.alternatives])
        assert one.logit == pytest.approx(other.logit, abs=1e-4)
        assert one.score < other.score
        # What two scores are to each other is what the temperature stretches.
        ratio = math.log(other.score / other.alternatives[0].score)
        assert math.log(one.score / one.alternatives[0].score) == pytest.approx(ratio / 2.5, 1e-3)


def test_a_deadline(runtime: Runtime) -> None:
    with pytest.raises(DeadlineExceededError, match="deadline: passed"):
        runtime.answer(question="who", context="the cat", timeout_s=0)
    assert runtime.answer(question="who", context="the cat", timeout_s=60).text


def test_async_answers(runtime: Runtime) -> None:
    async def ask() -> list[Answer]:
        tasks = [runtime.answer_async(question=q, context=c) for q, c in PAIRS]
        return list(await asyncio.gather(*tasks))

    assert spans(asyncio.run(ask())) == spans(runtime.answer_batch(PAIRS))


def test_a_cancelled_task_is_dropped(artifact_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Runtime.load(artifact_dir, engine="onnxruntime") as runtime:
        engine: Any = runtime.session._scheduler._engine
        gate, entered, batches = threading.Event(), threading.Event(), []
        run = engine.run

        def gated(batch: Any) -> Any:
            batches.append(batch.num_sequences)
            entered.set()
            assert gate.wait(30)
            return run(batch)

        monkeypatch.setattr(engine, "run", gated)

        async def ask() -> str:
            first = asyncio.create_task(runtime.answer_async(question="who", context="the cat"))
            await asyncio.to_thread(entered.wait, 30)
            num_tokens = runtime.session.stats.num_tokens
            second = asyncio.create_task(runtime.answer_async(question="who", context="the mat"))
            while runtime.session.stats.num_tokens == num_tokens:
                await asyncio.sleep(0.001)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.set()
            return (await first).text

        assert asyncio.run(ask()) in "the cat"
        assert batches == [1]


def test_a_closed_runtime_refuses(artifact_dir: Path) -> None:
    with Runtime.load(artifact_dir, engine="onnxruntime") as runtime:
        assert runtime.answer(question="who", context="the cat").text
    runtime.close()
    with pytest.raises(EngineUnavailableError, match="closed"):
        runtime.answer(question="who", context="the cat")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_answers_or_gets_the_reason(runtime: Runtime) -> None:
    question, context = PAIRS[1]
    want = runtime.answer(question=question, context=context)
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            got = spans([runtime.answer(question=question, context=context)])
        except EngineUnavailableError as error:
            # Its threads do not outlive a fork.
            os._exit(0 if runtime.info.name == "openvino" and "'spawn'" in str(error) else 2)
        os._exit(0 if got == spans([want]) and runtime.info.name != "openvino" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert spans([runtime.answer(question=question, context=context)]) == spans([want])


def test_what_a_runtime_says_of_itself(runtime: Runtime) -> None:
    info = runtime.info
    assert info.name in ENGINES
    assert (info.precision, info.device, info.num_threads) == ("float32", "cpu", 2)
    assert info.version
    assert info.notice == ""
    assert runtime.limits == LIMITS and runtime.manifest.limits == to_dict(LIMITS)
    assert runtime.task is TASKS["question-answering"]
    assert runtime.manifest.architecture == CONFIG


def test_limits_can_be_replaced(artifact_dir: Path) -> None:
    config = AnsweringConfig(
        max_seq_length=64, doc_stride=8, max_query_length=8, max_answer_length=1
    )
    with Runtime.load(artifact_dir, engine="onnxruntime", config=config) as runtime:
        assert runtime.limits == config
        text = runtime.answer(question="who sat", context="the cat sat on the mat").text
        assert len(text.split()) == 1
    with pytest.raises(ConfigError, match=r"max_seq_length: got 384, want at most .* \(64\)"):
        Runtime.load(artifact_dir, engine="onnxruntime", config=AnsweringConfig())


def test_auto_says_why_it_is_not_native(
    artifact_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Runtime.load(os.fspath(artifact_dir)) as runtime:
        assert runtime.info.name == "onnxruntime"
        assert "onnxruntime answers, not native: " in runtime.info.notice
    assert caplog.messages == [runtime.info.notice]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "tensorflow"}, ConfigError, "engine: unknown name 'tensorflow'"),
        ({"engine": "onnxruntime", "device": "GPU"}, EngineUnavailableError, "got 'GPU', want"),
        ({"engine": "onnxruntime", "num_threads": 0}, ConfigError, "num_threads: got 0"),
        ({"engine": "torch"}, EngineUnavailableError, "'torch' cannot run here: "),
    ],
)
def test_an_engine_that_cannot_run_says_why(
    artifact_dir: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Runtime.load(artifact_dir, **options)


def test_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError):
        Runtime.load(tmp_path / "nothing")
