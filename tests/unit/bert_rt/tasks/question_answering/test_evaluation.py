"""Tests of bert_rt.tasks.question_answering.evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.errors import EmptyInputError, InputError
from bert_rt.tasks.question_answering import evaluation
from bert_rt.tasks.question_answering.evaluation import evaluate, stream_logits
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.types import Answer
from tests.support.artifacts import PAIRS, write_tiny_artifact


class Counter:
    """Counts what is reported to progress."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self.count += count


def example(index: int, question: str, context: str, answers: tuple[str, ...]) -> SquadExample:
    starts = (0,) * len(answers)
    return SquadExample(f"q{index}", "", question, context, answers, starts, not answers)


def test_evaluation(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a")
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        texts = [answer.text for answer in runtime.answer_batch(PAIRS)]
        # Every second gold answer is right; the last question has none.
        golds = [(text if i % 2 else "zzz",) for i, text in enumerate(texts[:-1])]
        examples = [
            example(i, *pair, gold)
            for i, (pair, gold) in enumerate(zip(PAIRS, golds, strict=False))
        ]
        examples.append(example(len(golds), *PAIRS[-1], ()))
        counter = Counter()
        result = evaluate(runtime, examples, progress=counter)
        scores = [answer.score for answer in runtime.answer_batch(PAIRS)]
        with pytest.raises(InputError, match="got 0 questions"):
            evaluate(runtime, [])
        with pytest.raises(EmptyInputError, match=r"pairs\[0\]\.question"):
            evaluate(runtime, [example(0, " ", "x", ("x",))])
    assert result.predictions == {f"q{i}": text for i, text in enumerate(texts)}
    np.testing.assert_array_equal(result.exact_N, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(result.f1_N, [0, 1, 0, 1, 0])
    assert (result.exact_match, result.f1, result.total) == (40.0, 40.0, 5)
    assert result.questions_per_second > 0
    assert counter.count == 5
    np.testing.assert_allclose(result.score_N, scores, rtol=1e-4)
    assert result.raw_score_N is None and result.score_temperature == 1.0


def test_scores_before_and_after_the_temperature(tmp_path: Path) -> None:
    examples = [example(i, *pair, ("x",)) for i, pair in enumerate(PAIRS)] * 3
    results = {}
    for temperature in (1.0, 2.5):
        write_tiny_artifact(tmp_path / str(temperature), score_temperature=temperature)
        with Runtime.load(tmp_path / str(temperature), engine="onnxruntime") as runtime:
            results[temperature] = evaluate(runtime, examples, raw_scores=True)
            streamed = evaluate(runtime, examples)
        np.testing.assert_allclose(streamed.score_N, results[temperature].score_N, rtol=1e-4)
        assert streamed.predictions == results[temperature].predictions
    plain, cooled = results[1.0], results[2.5]
    np.testing.assert_array_equal(plain.raw_score_N, plain.score_N)
    np.testing.assert_allclose(cooled.raw_score_N, plain.score_N, rtol=1e-4)
    assert (cooled.score_N < plain.score_N).all()
    assert (cooled.score_temperature, cooled.predictions) == (2.5, plain.predictions)


def test_logits_come_in_order_and_errors_at_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_CHUNK_QUESTIONS", 2)
    write_tiny_artifact(tmp_path / "a")
    examples = [example(i, *pair, ("x",)) for i, pair in enumerate(PAIRS)]
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        options = runtime.options()
        found = [runtime.task.decode(*item, options) for item in stream_logits(runtime, examples)]
        want = runtime.answer_batch(PAIRS)
        assert [(a.text, a.start) for a in found] == [(a.text, a.start) for a in want]
        for bad, message in ((" ", "got ' '"), ("\u0301", "got text without")):
            spoilt = [*examples[:3], example(3, bad, "x", ("x",))]
            with pytest.raises(EmptyInputError, match=rf"^pairs\[3\]\.question: {message}"):
                list(stream_logits(runtime, spoilt))
            with pytest.raises(EmptyInputError, match=rf"^pairs\[3\]\.question: {message}"):
                evaluate(runtime, spoilt)


def test_a_score_of_no_answer_far_above_all_spans() -> None:
    answers = [Answer("x", 0, 1, score, -1e5, 1e5) for score in (0.0, 1e-300)]
    assert evaluation._scores(answers, ["", ""], 0.5).tolist() == [1.0, 1.0]
    assert evaluation._scores(answers, ["x", "x"], 0.5).tolist() == [0.0, 1e-300]
