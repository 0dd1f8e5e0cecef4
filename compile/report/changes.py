"""Which answers INT8 changed, for people to judge: a mean can hide what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation
from bert_rt.tasks.question_answering.squad import SquadExample

__all__ = ["ChangedAnswer", "changed_answers", "equal_answers"]


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """A question that INT8 answers with another text than float.

    Attributes:
        question: The question.
        float_text: Float's answer; "" for no answer.
        int8_text: INT8's answer.
        float_f1: In [0, 1].
        int8_f1: In [0, 1].
    """

    question: str
    float_text: str
    int8_text: str
    float_f1: float
    int8_f1: float


def equal_answers(
    float_result: AnswerEvaluation, int8_result: AnswerEvaluation, examples: Sequence[SquadExample]
) -> NDArray[np.float64]:
    """Tell for every question whether both gave the same text.

    Args:
        float_result: The float model's evaluation.
        int8_result: INT8's, of the same questions.
        examples: The questions.

    Returns:
        Shape (Q,), float64, each 0 or 1.
    """
    texts, others = float_result.predictions, int8_result.predictions
    return np.array([texts[example.id] == others[example.id] for example in examples], np.float64)


def changed_answers(
    float_result: AnswerEvaluation, int8_result: AnswerEvaluation, examples: Sequence[SquadExample]
) -> list[ChangedAnswer]:
    """List the questions whose answers differ.

    Args:
        float_result: The float model's evaluation.
        int8_result: INT8's, of the same questions.
        examples: The questions, in the evaluations' order.

    Returns:
        The changes, the largest loss of F1 first, equal ones in the questions' order.
    """
    changes = [
        ChangedAnswer(
            question=examples[index].question,
            float_text=float_result.predictions[examples[index].id],
            int8_text=int8_result.predictions[examples[index].id],
            float_f1=float(float_result.f1_N[index]),
            int8_f1=float(int8_result.f1_N[index]),
        )
        for index in np.flatnonzero(
            equal_answers(float_result, int8_result, examples) == 0
        ).tolist()
    ]
    return sorted(changes, key=lambda change: change.int8_f1 - change.float_f1)
