"""Tests of bert_rt.tasks.question_answering.no_answer."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.metrics import evaluate_squad
from bert_rt.tasks.question_answering.no_answer import (
    always_answering,
    best_threshold,
    score_answers,
)
from bert_rt.types import Answer

V2 = AnsweringConfig(version_2_with_negative=True, null_score_diff_threshold=0.5)


@pytest.mark.parametrize("seed", range(20))
def test_as_good_as_trying_them_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    # Few different margins, so that many are equal.
    margins = random.integers(-4, 5, count) / 2.0
    spans, nulls = random.random(count), random.integers(0, 2, count).astype(float)

    def f1(threshold: float) -> float:
        return 100 * float(np.where(margins > threshold, nulls, spans).mean())

    found = best_threshold(margins, spans, nulls)
    assert found.f1 == pytest.approx(f1(found.value))
    assert found.f1_at_zero == pytest.approx(f1(0.0))
    assert found.f1 >= max(f1(threshold) for threshold in np.arange(-6, 6, 0.25)) - 1e-9
    # No margin is near, which another engine's rounding could carry over it.
    assert np.abs(margins - found.value).min() >= 0.25


def test_always_and_never() -> None:
    margins = np.array([-3.0, 1.0, 2.0])
    assert best_threshold(margins, np.ones(3), np.zeros(3)).value == 2.5
    assert best_threshold(margins, np.zeros(3), np.ones(3)).value == -3.5
    assert best_threshold(margins, np.ones(3), np.ones(3)).value == -3.5


# Questions with the best span, its margin to "no answer" and the gold answers.
_ROWS = (
    ("cat", -3.0, ("cat",)),
    ("black cat", -1.0, ("cat",)),
    ("dog", 0.25, ()),
    ("mat", 0.5, ()),
    ("cat", 1.0, ("cat",)),
    ("dog", 2.0, ()),
    ("", -9.0, ()),
)


def _scored(config: AnsweringConfig, rows: Any = _ROWS) -> Any:
    examples: Any = [SimpleNamespace(id=str(i), answers=gold) for i, (*_, gold) in enumerate(rows)]
    answers = [Answer(text, 0, 0, 0.5, 7.0, 7.0 + margin) for text, margin, _ in rows]
    return examples, score_answers(examples, iter(answers), config)


def test_official_figures() -> None:
    examples, scored = _scored(V2)
    given = ["cat", "black cat", "dog", "mat", "", "", ""]
    assert list(scored.predictions.values()) == given
    wanted = evaluate_squad(scored.predictions, examples, version_2_with_negative=True)
    assert scored.scores.f1s.tolist() == wanted.f1s.tolist()
    figures = dict(scored.no_answer)
    thresholds = figures.pop("best_exact_thresh"), figures.pop("best_f1_thresh")
    assert figures == pytest.approx(
        {
            "HasAns_total": 3,
            "HasAns_exact": 100 / 3,
            "HasAns_f1": 500 / 9,
            "NoAns_total": 4,
            "NoAns_exact": 50.0,
            "NoAns_f1": 50.0,
            # All but "black cat", of which a half is right, and the last "cat".
            "best_exact": 500 / 7,
            "best_f1": 100 * (5 + 2 / 3) / 7,
        }
    )
    assert -1.0 < thresholds[1] < 0.25
    for name, threshold in zip(("best_exact", "best_f1"), thresholds, strict=True):
        _, again = _scored(replace(V2, null_score_diff_threshold=threshold))
        got = again.scores.exact_match if name == "best_exact" else again.scores.f1
        assert got == pytest.approx(figures[name])


def test_files_with_one_kind_of_questions() -> None:
    answered = [row for row in _ROWS if row[2]]
    assert _scored(V2, answered)[1].no_answer == {}
    figures = _scored(V2, [row for row in _ROWS if not row[2]])[1].no_answer
    assert (figures["HasAns_total"], figures["best_f1"]) == (0, 100.0)
    assert "HasAns_f1" not in figures


def test_a_model_that_always_answers_learns_what_a_threshold_would_bring() -> None:
    config = AnsweringConfig()
    _, scored = _scored(config)
    assert list(scored.predictions.values()) == [text for text, *_ in _ROWS]
    assert scored.no_answer["NoAns_f1"] == 25.0
    assert scored.no_answer["best_f1"] == pytest.approx(100 * (5 + 2 / 3) / 7)
    assert always_answering(V2).null_score_diff_threshold == 1e6
