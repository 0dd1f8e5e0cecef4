"""Tests of bert_rt.evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_rt import evaluation
from bert_rt.api import Runtime
from bert_rt.errors import EmptyInputError, InputError
from bert_rt.evaluation import evaluate, evaluate_classes, stream_logits
from bert_rt.tasks.question_answering.answering import pick_answer
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.tasks.text_classification.labelled import LabelledText
from bert_rt.types import Answer, TextInput
from tests.support.artifacts import LABELS, PAIRS, write_tiny_artifact, write_tiny_classifier


class Counter:
    """Counts what progress is told."""

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
        found = [pick_answer(*item, options) for item in stream_logits(runtime, examples)]
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


def test_classes_of_labelled_texts(tmp_path: Path) -> None:
    write_tiny_classifier(tmp_path / "a")
    texts = [context for _, context in PAIRS]
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        given = [result.label for result in runtime.classify_batch(texts)]
        # The last one gets a label that is wrong.
        gold = [*given[:-1], next(label for label in LABELS if label != given[-1])]
        examples = [
            LabelledText(TextInput(text), label, f"f, line {n}")
            for n, (text, label) in enumerate(zip(texts, gold, strict=True))
        ]
        result = evaluate_classes(runtime, examples)
        with pytest.raises(InputError, match="examples: got 0 texts, want at least 1"):
            evaluate_classes(runtime, [])
        strange = LabelledText(TextInput("a"), "great", "f, line 7")
        with pytest.raises(InputError, match="f, line 7: label: got 'great'"):
            evaluate_classes(runtime, [*examples, strange])
    assert [LABELS[index] for index in result.predicted_Q] == given
    assert result.correct_Q.tolist() == [1.0] * (len(texts) - 1) + [0.0]
    assert result.accuracy == pytest.approx(100 * (1 - 1 / len(texts)))
    assert result.total == len(texts)
    assert result.texts_per_second > 0
    assert result.score_temperature == 1.0
    np.testing.assert_allclose(result.score_Q, result.raw_score_Q, rtol=1e-6)


def test_class_scores_before_and_after_the_temperature(tmp_path: Path) -> None:
    write_tiny_classifier(tmp_path / "a", score_temperature=0.5)
    texts = [context for _, context in PAIRS]
    rows = [LabelledText(TextInput(text), LABELS[0], "f, line 1") for text in texts]
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        result = evaluate_classes(runtime, rows)
        given = runtime.classify_batch(texts)
    np.testing.assert_allclose(result.score_Q, [one.score for one in given], rtol=1e-4)
    logits = np.array([one.logits for one in given])
    plain = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(result.raw_score_Q, 1 / plain.sum(axis=1), rtol=1e-4)
    assert result.score_temperature == 0.5 and (result.score_Q > result.raw_score_Q).all()
