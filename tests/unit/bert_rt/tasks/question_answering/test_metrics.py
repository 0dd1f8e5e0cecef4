"""Unit tests of bert_rt.tasks.question_answering.metrics."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bert_rt.errors import InputError
from bert_rt.tasks.metrics import macro_f1, reliability
from bert_rt.tasks.question_answering.metrics import (
    evaluate_squad,
    exact_match_score,
    f1_score,
    normalize_answer,
)
from bert_rt.tasks.question_answering.squad import read_squad


def example(identifier: str, *answers: str) -> Any:
    """Make what the metrics need of an example."""
    return SimpleNamespace(id=identifier, answers=answers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat,\tsat!", "cat sat"),
        ("an apple a day", "apple day"),
        ("theatre another", "theatre another"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),
        ("\u201cA\u201d caf\u00e9", "\u201c \u201d caf\u00e9"),
        ("The", ""),
    ],
)
def test_normalize_answer(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the cat", ["Cat."], 1.0, 1.0),
        ("black cat", ["cat"], 0.0, 2 / 3),
        ("black cat", ["dog", "cat", "black cats"], 0.0, 2 / 3),
        ("cat cat", ["cat"], 0.0, 2 / 3),
        ("dog", ["cat"], 0.0, 0.0),
        ("", ["cat"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("the", [], 1.0, 1.0),
        ("cat", [], 0.0, 0.0),
        # The v1.1 script: two empty answers are the same, but have no token in common.
        ("the", ["a"], 1.0, 0.0),
    ],
)
def test_scores(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    assert exact_match_score(prediction, answers) == exact
    assert f1_score(prediction, answers) == pytest.approx(f1, rel=1e-15)


def test_evaluate_gives_questions_and_totals() -> None:
    scores = evaluate_squad(
        {"a": "cat", "b": "black cat", "other": "x"},
        [example("a", "cat"), example("b", "cat"), example("c", "cat"), example("d")],
    )
    assert scores.ids == ("a", "b", "c", "d")
    assert scores.exact_matches.tolist() == [1.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(scores.f1s, [1.0, 2 / 3, 0.0, 0.0])
    assert scores.exact_match == 25.0
    assert scores.f1 == pytest.approx(100 * (5 / 3) / 4)
    assert scores.total == 4


def test_gold_answers_without_words_are_ignored_only_in_version_2() -> None:
    examples = [example("a", "%", "cat"), example("b", "The")]
    predictions = {"a": "", "b": ""}
    scores = evaluate_squad(predictions, examples)
    assert (scores.exact_matches.tolist(), scores.f1s.tolist()) == ([1.0, 1.0], [0.0, 0.0])
    scores = evaluate_squad(predictions, examples, version_2_with_negative=True)
    assert (scores.exact_matches.tolist(), scores.f1s.tolist()) == ([0.0, 1.0], [0.0, 1.0])


def test_no_examples_are_refused() -> None:
    with pytest.raises(InputError, match="examples: got 0 questions"):
        evaluate_squad({}, [])


def test_totals_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional.text import squad

    rng = np.random.default_rng(0)
    words = ["Cat", "sat.", "on", "mat,", "U.S.", "1,000", "\u00e9t\u00e9", "the", "a", "an"]

    def phrase() -> str:
        # The last word is no article: torchmetrics gives two empty answers an F1 of 1, as the
        # v2.0 script does, where the v1.1 script gives 0.
        return " ".join((*rng.choice(words, size=rng.integers(0, 3)), words[rng.integers(7)]))

    examples = [example(str(i), *(phrase() for _ in range(rng.integers(1, 4)))) for i in range(400)]
    predictions = {one.id: phrase() for one in examples}
    ours = evaluate_squad(predictions, examples)
    theirs = squad(
        [{"id": key, "prediction_text": text} for key, text in predictions.items()],
        [
            {"id": one.id, "answers": {"text": list(one.answers), "answer_start": [0]}}
            for one in examples
        ],
    )
    assert 5 < ours.exact_match < 95
    # torchmetrics sums in float32.
    assert ours.exact_match == pytest.approx(float(theirs["exact_match"]), rel=1e-6)
    assert ours.f1 == pytest.approx(float(theirs["f1"]), rel=1e-6)


@pytest.mark.parametrize("name", ["dev-v1.1.json.gz", "dev-v2.0.json.gz"])
def test_gold_answers_of_the_official_files_score_100(shared_dir: Path, name: str) -> None:
    examples = read_squad(shared_dir / "data" / "squad" / name)
    predictions = {one.id: one.answers[0] if one.answers else "" for one in examples}
    scores = evaluate_squad(predictions, examples)
    assert (scores.exact_match, scores.f1) == (100.0, 100.0)


# Classes


def test_macro_f1() -> None:
    gold = np.array([0, 0, 0, 1, 1, 3])
    predicted = np.array([0, 0, 1, 1, 3, 3])
    # By hand: class 0 has 2 * 2 / (2 + 3), class 1 has 2 / (2 + 2), class 3 has 2 / (2 + 1).
    assert macro_f1(predicted, gold) == pytest.approx(100 * (4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert macro_f1(gold, gold) == 100
    assert macro_f1(gold + 1, gold - gold) == 0


# Calibration


def test_reliability_by_hand() -> None:
    scores = np.array([0.0, 0.5, 0.5, 0.51, 0.9, 1.0])
    correct = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    bins = reliability(scores, correct, num_bins=2)
    # A score of 0.5 belongs to the lower bin.
    assert bins.count_M.tolist() == [3, 3]
    np.testing.assert_allclose(bins.score_M, [1 / 3, 2.41 / 3])
    np.testing.assert_allclose(bins.accuracy_M, [2 / 3, 1.0])
    assert bins.expected_calibration_error == pytest.approx((1 / 3 + (1 - 2.41 / 3)) / 2)


def test_an_empty_bin_counts_for_nothing() -> None:
    bins = reliability(np.array([0.99]), np.array([1.0]))
    assert bins.count_M.tolist() == [0] * 14 + [1]
    assert bins.accuracy_M[:14].tolist() == bins.score_M[:14].tolist() == [0.0] * 14
    assert bins.expected_calibration_error == pytest.approx(0.01)


def test_scores_that_are_true_and_scores_that_are_not() -> None:
    random = np.random.default_rng(0)
    scores = random.random(50_000)
    correct = (random.random(50_000) < scores).astype(np.float64)
    assert reliability(scores, correct).expected_calibration_error < 0.01
    surer = scores**0.25
    gap = float((surer - scores).mean())
    assert reliability(surer, correct).expected_calibration_error == pytest.approx(gap, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_that_of_torchmetrics(seed: int) -> None:
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    random = np.random.default_rng(seed)
    scores = random.beta(2, 1, random.integers(1, 500))
    correct = (random.random(len(scores)) < 0.7).astype(np.float64)
    theirs = binary_calibration_error(
        torch.from_numpy(scores), torch.from_numpy(correct).int(), n_bins=15
    )
    ours = reliability(scores, correct).expected_calibration_error
    assert ours == pytest.approx(float(theirs), abs=1e-6)
