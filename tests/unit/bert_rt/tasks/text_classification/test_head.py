"""Tests of bert_rt.tasks.text_classification.head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.tasks.text_classification.classes import rank_classes
from bert_rt.tasks.text_classification.head import (
    ClassifierHead,
    apply_function,
    function_of_config,
    head_of_config,
)


@pytest.mark.parametrize(
    ("kind", "num_labels", "problem_type", "function"),
    [
        (None, 2, "single_label_classification", "softmax"),
        (None, 1, "regression", "sigmoid"),
        ("regression", 1, "regression", "none"),
        ("single_label_classification", 3, "single_label_classification", "softmax"),
        ("multi_label_classification", 3, "multi_label_classification", "sigmoid"),
        ("multi_label_classification", 1, "multi_label_classification", "sigmoid"),
    ],
)
def test_what_config_says(
    kind: str | None, num_labels: int, problem_type: str, function: str
) -> None:
    raw = {"problem_type": kind}
    head = head_of_config(raw, num_labels)
    assert (head.problem_type, head.function_to_apply) == (problem_type, function)
    assert function_of_config(raw, num_labels) == function


@pytest.mark.parametrize("kind", ["ranking", "", 3, ["regression"]])
def test_a_problem_type_that_is_none(kind: Any) -> None:
    with pytest.raises(CheckpointError, match=r"problem_type: got .*, want one of single_label"):
        head_of_config({"problem_type": kind}, 2)


def test_what_does_not_go_together() -> None:
    with pytest.raises(ConfigError, match="function_to_apply: got 'sigmoid'"):
        head_of_config({"problem_type": "single_label_classification"}, 1)
    with pytest.raises(ConfigError, match="labels: got 2 for regression, want exactly one"):
        head_of_config({"problem_type": "regression"}, 2).check_labels(["a", "b"])
    with pytest.raises(ConfigError, match="labels: got none"):
        ClassifierHead().check_labels([])


def test_the_usual_head_is_not_written() -> None:
    assert ClassifierHead().to_manifest() == {}


def test_functions() -> None:
    logits = np.array([[-800.0, 0.0, 800.0]])
    assert apply_function("sigmoid", logits).tolist() == [[0.0, 0.5, 1.0]]
    assert apply_function("softmax", logits).tolist() == [[0.0, 0.0, 1.0]]
    assert apply_function("none", logits) is logits


def test_labels_are_ranked_by_their_own_probabilities() -> None:
    logits = np.array([0.0, 2.0, -2.0], np.float32)
    best = rank_classes(logits, "abc", top_k=3, score_temperature=2.0, function="sigmoid")
    found = [(item.label, item.score) for item in (best, *best.alternatives)]
    assert [label for label, _ in found] == ["b", "a", "c"]
    sure = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose([score for _, score in found], [sure, 0.5, 1 - sure])
