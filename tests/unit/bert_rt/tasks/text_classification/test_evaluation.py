"""Tests of bert_rt.tasks.text_classification.evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.tasks.text_classification.evaluation import evaluate_classes
from bert_rt.tasks.text_classification.labelled import LabelledText
from bert_rt.types import TextInput
from tests.support.artifacts import LABELS, PAIRS, write_tiny_classifier


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
