"""Tests of compile.report.changes."""

from __future__ import annotations

import numpy as np

from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation
from bert_rt.tasks.question_answering.squad import SquadExample
from compile.report.changes import ChangedAnswer, changed_answers, equal_answers

EXAMPLES = [SquadExample(name, "", f"{name}?", "c", (), (), True) for name in "abcd"]


def evaluation(f1_N: list[float], texts: list[str]) -> AnswerEvaluation:
    predictions = dict(zip("abcd", texts, strict=True))
    zeros = np.zeros(4)
    return AnswerEvaluation(0.0, 0.0, 4, 1.0, predictions, zeros, np.array(f1_N), zeros, None, 1.0)


FLOAT = evaluation([1.0, 0.5, 0.5, 0.0], ["one", "two", "", "four"])
INT8 = evaluation([1.0, 0.75, 0.0, 0.0], ["one", "TWO", "three", "five"])


def test_equal_answers() -> None:
    assert equal_answers(FLOAT, INT8, EXAMPLES).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_worst_come_first() -> None:
    assert changed_answers(FLOAT, INT8, EXAMPLES) == [
        ChangedAnswer("c?", "", "three", 0.5, 0.0),
        ChangedAnswer("d?", "four", "five", 0.0, 0.0),
        ChangedAnswer("b?", "two", "TWO", 0.5, 0.75),
    ]
    assert changed_answers(FLOAT, FLOAT, EXAMPLES) == []
