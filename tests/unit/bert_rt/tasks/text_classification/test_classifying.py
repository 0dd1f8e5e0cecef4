"""Tests of Runtime.classify, on every engine that runs without torch."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.errors import (
    DeadlineExceededError,
    EmptyInputError,
    EngineError,
    InputError,
    InputTooLongError,
)
from bert_rt.tasks import session as session_module
from bert_rt.tasks.selftest import LOGIT_ATOL, make_self_test
from bert_rt.tasks.text_classification.classes import rank_classes
from bert_rt.tasks.text_classification.classifying import TextClassification
from bert_rt.tasks.texts import MAX_TEXT_CHARS
from bert_rt.types import Classification, TextInput
from tests.support.artifacts import (
    CLASSIFIER_LIMITS,
    LABELS,
    PAIRS,
    write_tiny_artifact,
    write_tiny_classifier,
)
from tests.tolerances import FLOAT32_ATOL

ENGINES = [
    name
    for name in ("onnxruntime", "openvino", "reference")
    if name == "reference" or importlib.util.find_spec(name) is not None
]
TEXTS: tuple[Any, ...] = (*(text for _, text in PAIRS), *PAIRS, TextInput("the cat", "the mat"))


@pytest.fixture(scope="module")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifier") / "artifact"
    write_tiny_classifier(path)
    return path


@pytest.fixture(scope="module", params=ENGINES)
def runtime(artifact_dir: Path, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    with Runtime.load(artifact_dir, engine=request.param, num_threads=2) as opened:
        yield opened


def test_classes_and_their_probabilities(runtime: Runtime) -> None:
    result = runtime.classify(PAIRS[0][1], top_k=3)
    every = (result, *result.alternatives)
    assert sorted(each.label for each in every) == sorted(LABELS)
    assert sum(each.score for each in every) == pytest.approx(1)
    assert [each.logit for each in every] == sorted(result.logits, reverse=True)
    for each in every:
        assert each.label == LABELS[each.index]
        assert each.logit == result.logits[each.index]
        want = math.exp(each.logit) / sum(map(math.exp, result.logits))
        assert each.score == pytest.approx(want)
    assert runtime.classify(PAIRS[0][1]).alternatives == ()
    # No more classes than there are.
    assert len(runtime.classify(PAIRS[0][1], top_k=100).alternatives) == 2


def test_batched_and_single_classes_are_equal(runtime: Runtime) -> None:
    together = runtime.classify_batch(TEXTS)
    assert len({result.index for result in together}) > 1
    for text, got in zip(TEXTS, together, strict=True):
        item = TextClassification().check_input(text)
        alone = runtime.classify(item.text, item.text_pair)
        np.testing.assert_allclose(got.logits, alone.logits, rtol=0, atol=FLOAT32_ATOL)


def test_every_engine_gives_the_same(artifact_dir: Path) -> None:
    logits = []
    for engine in ENGINES:
        with Runtime.load(artifact_dir, engine=engine) as runtime:
            logits.append([result.logits for result in runtime.classify_batch(TEXTS)])
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], rtol=0, atol=FLOAT32_ATOL)
    assert np.std(logits[0]) > 1000 * FLOAT32_ATOL


def test_the_second_text_matters(runtime: Runtime) -> None:
    alone, with_pair, swapped = (
        runtime.classify(*texts).logits
        for texts in (
            ("the cat sat",),
            ("the cat sat", "on the mat"),
            ("on the mat", "the cat sat"),
        )
    )
    assert np.abs(np.subtract(alone, with_pair)).max() > 100 * FLOAT32_ATOL
    assert np.abs(np.subtract(swapped, with_pair)).max() > 100 * FLOAT32_ATOL


def test_what_is_beyond_the_longest_sequence_is_cut_off(runtime: Runtime) -> None:
    room = CLASSIFIER_LIMITS.max_seq_length - 2
    fits = " ".join(["cat", "mat"] * (room // 2))
    assert runtime.classify(fits + " who is in paris").logits == runtime.classify(fits).logits
    assert runtime.classify(fits[4:] + " paris").logits != runtime.classify(fits).logits


def test_many_threads_share_one_runtime(runtime: Runtime) -> None:
    want = runtime.classify_batch(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda text: runtime.classify_batch([text])[0], TEXTS * 4))
    for one, other in zip(got, want * 4, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=FLOAT32_ATOL)


def test_chunks_do_not_change_classes(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    want = runtime.classify_batch(TEXTS)
    for name, value in (("_CHUNK_ITEMS", 3), ("_CHUNK_CHARS", 40)):
        monkeypatch.setattr(session_module, name, value)
        for got, other in zip(runtime.classify_batch(TEXTS), want, strict=True):
            np.testing.assert_allclose(got.logits, other.logits, rtol=0, atol=FLOAT32_ATOL)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("", EmptyInputError, r"^texts\[1\]\.text: got ''"),
        (("a", " "), EmptyInputError, r"^texts\[1\]\.text_pair: got ' '"),
        (7, InputError, r"^texts\[1\]\.text: got int, want str"),
        (("a", 7), InputError, r"^texts\[1\]\.text_pair: got int, want str"),
        (("a", "b", "c"), InputError, r"^texts\[1\]: got 3 texts, want a text or a pair"),
        (("a",), InputError, r"^texts\[1\]: got 1 texts, want a text or a pair"),
        ("a\0b", InputError, r"^texts\[1\]\.text: got a NUL"),
        ("x" * (MAX_TEXT_CHARS + 1), InputTooLongError, r"^texts\[1\]\.text: got"),
        ("\u0301", EmptyInputError, r"^texts\[1\]\.text: got text without a single token"),
        (("a", "\u0301"), EmptyInputError, r"^texts\[1\]\.text_pair: got text without a"),
    ],
)
def test_bad_texts(runtime: Runtime, item: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        runtime.classify_batch(["good", item])


def test_a_stream_gives_what_comes_before_a_bad_text(runtime: Runtime) -> None:
    results = runtime.classify_stream(["the cat", "the mat", "\u0301", "x"])
    assert [next(results).label for _ in range(2)] == [
        result.label for result in runtime.classify_batch(["the cat", "the mat"])
    ]
    with pytest.raises(EmptyInputError, match=r"^texts\[2\]\.text: got text without"):
        next(results)


def test_a_stream_pulls_no_more_than_it_needs(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_CHUNK_ITEMS", 4)
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield f"the cat {number}"

    results = runtime.classify_stream(endless(), top_k=2)
    found = list(itertools.islice(results, 6))
    assert len(taken) <= 8
    want = runtime.classify_batch([f"the cat {number}" for number in range(6)], top_k=2)
    for one, other in zip(found, want, strict=True):
        assert len(one.alternatives) == 1
        np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=FLOAT32_ATOL)


def test_async_classes(runtime: Runtime) -> None:
    async def ask() -> list[Classification]:
        asked = [TextClassification().check_input(text) for text in TEXTS]
        tasks = [runtime.classify_async(item.text, item.text_pair, top_k=2) for item in asked]
        return list(await asyncio.gather(*tasks))

    for got, want in zip(asyncio.run(ask()), runtime.classify_batch(TEXTS), strict=True):
        np.testing.assert_allclose(got.logits, want.logits, rtol=0, atol=FLOAT32_ATOL)
        assert (got.label, len(got.alternatives)) == (want.label, 1)
    with pytest.raises(EmptyInputError, match=r"^text: got ''"):
        asyncio.run(runtime.classify_async(""))
    with pytest.raises(DeadlineExceededError):
        asyncio.run(runtime.classify_async("a", timeout_s=0))


def test_options_are_checked(runtime: Runtime) -> None:
    for top_k in (0, True, "1", 10_001):
        with pytest.raises(InputError, match="top_k: got"):
            runtime.classify("a", top_k=top_k)  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceededError):
        runtime.classify("a", timeout_s=0)


def test_a_classifier_does_not_answer_and_the_other_way_round(
    artifact_dir: Path, tmp_path: Path
) -> None:
    with Runtime.load(artifact_dir, engine="onnxruntime") as runtime:
        message = "^task: got a text-classification artifact, .* `classify`; want question-answ"
        with pytest.raises(InputError, match=message):
            runtime.answer(question="who", context="the cat")
        with pytest.raises(InputError, match=message):
            runtime.answer_batch([("who", "the cat")])
    write_tiny_artifact(tmp_path / "a")
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        message = "^task: got a question-answering artifact, .* `answer`; want text-classification"
        with pytest.raises(InputError, match=message):
            runtime.classify("the cat")
        with pytest.raises(InputError, match=message):
            runtime.classify_batch(["the cat"])


def test_the_artifacts_temperature_is_used(tmp_path: Path) -> None:
    write_tiny_classifier(tmp_path / "plain")
    write_tiny_classifier(tmp_path / "cooled", score_temperature=4.0)
    results = []
    for name in ("plain", "cooled"):
        with Runtime.load(tmp_path / name, engine="onnxruntime") as runtime:
            results.append((runtime.classify(TEXTS[0]), runtime.classify_batch(TEXTS)))
    (plain, plain_batch), (cooled, cooled_batch) = results
    assert (plain.label, plain.logits) == (cooled.label, cooled.logits)
    wanted = rank_classes(np.array(plain.logits, np.float32), LABELS, score_temperature=4.0)
    assert cooled.score == pytest.approx(wanted.score) != plain.score
    for one, other in zip(plain_batch, cooled_batch, strict=True):
        assert one.label == other.label and other.score < one.score


# The self-test


def self_test(artifact_dir: Path) -> tuple[dict[str, Any], ...]:
    with Runtime.load(artifact_dir, engine="onnxruntime") as runtime:
        texts = ("the cat", ("the cat", "the mat"))
        return make_self_test(runtime.session, runtime.task, texts, runtime.options())


def test_self_test_items(artifact_dir: Path, tmp_path: Path) -> None:
    items = self_test(artifact_dir)
    assert [(item["text"], item["text_pair"]) for item in items] == [
        ("the cat", None),
        ("the cat", "the mat"),
    ]
    write_tiny_classifier(tmp_path / "a", self_test=items)
    for engine in ENGINES:
        with Runtime.load(tmp_path / "a", engine=engine) as runtime:
            got = runtime.classify("the cat", "the mat").logits
        np.testing.assert_allclose(got, items[1]["logits"], rtol=0, atol=FLOAT32_ATOL)


@pytest.mark.parametrize(("shift", "is_allowed"), [(0.5, True), (1.5, False)])
def test_a_logit_that_is_off_is_refused(
    artifact_dir: Path, tmp_path: Path, shift: float, is_allowed: bool
) -> None:
    items = self_test(artifact_dir)
    items[1]["logits"][2] += shift * LOGIT_ATOL["float32"]
    write_tiny_classifier(tmp_path / "a", self_test=items)
    if is_allowed:
        Runtime.load(tmp_path / "a", engine="onnxruntime").close()
        return
    with pytest.raises(EngineError, match=r"self_test\[1\]\.logits: got .*, want .* within 0\.01"):
        Runtime.load(tmp_path / "a", engine="onnxruntime")
