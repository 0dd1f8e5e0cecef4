"""Tests of bert_rt.evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.errors import EmptyInputError, InputError
from bert_rt.evaluation import evaluate, evaluate_classes
from bert_rt.labelled import LabelledText
from bert_rt.squad import SquadExample
from bert_rt.types import TextInput
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
