"""Exact match and F1 as the official SQuAD scripts compute them; F1 of classes; calibration error.

Source: evaluate-v1.1.py and evaluate-v2.0.py of rajpurkar/SQuAD-explorer; arXiv:1606.05250.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputError

__all__ = [
    "Gold",
    "SquadScores",
    "evaluate_squad",
    "exact_match_score",
    "f1_score",
    "normalize_answer",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Gold(Protocol):
    """What the metrics need of an example; squad.SquadExample has it."""

    @property
    def id(self) -> str | int:
        """Key of the example's prediction."""
        ...

    @property
    def answers(self) -> Sequence[str]:
        """Gold answers; empty where the context holds none."""
        ...


@dataclass(frozen=True, slots=True)
class SquadScores:
    """Scores of every question; the totals are their means, in percent.

    Attributes:
        ids: Question ids, in the examples' order.
        exact_matches: Shape (len(ids),), float64, each 0 or 1.
        f1s: Shape (len(ids),), float64, each in [0, 1].
    """

    ids: tuple[str | int, ...]
    exact_matches: NDArray[np.float64]
    f1s: NDArray[np.float64]

    @property
    def total(self) -> int:
        """Number of questions."""
        return len(self.ids)

    @property
    def exact_match(self) -> float:
        """Mean exact match in percent."""
        return 100.0 * float(self.exact_matches.mean())

    @property
    def f1(self) -> float:
        """Mean F1 in percent."""
        return 100.0 * float(self.f1s.mean())


def normalize_answer(text: str) -> str:
    """Lower the case and drop ASCII punctuation, English articles and extra white space."""
    without_punctuation = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_punctuation).split())


def exact_match_score(prediction: str, answers: Sequence[str]) -> float:
    """Compare a prediction with the gold answers.

    Args:
        prediction: The predicted answer; "" for no answer.
        answers: Gold answers; none means that only a prediction that normalizes to "" is right.

    Returns:
        1.0 where the normalized prediction equals a normalized gold answer, else 0.0.
    """
    normalized = normalize_answer(prediction)
    return float(any(normalize_answer(answer) == normalized for answer in answers or ("",)))


def f1_score(prediction: str, answers: Sequence[str]) -> float:
    """Measure how far a prediction's tokens overlap with those of the best gold answer.

    Args:
        prediction: The predicted answer; "" for no answer.
        answers: Gold answers; none means that the score is exact match with "", as in v2.0.

    Returns:
        The largest F1 of any gold answer, in [0, 1].
    """
    tokens = normalize_answer(prediction).split()
    if not answers:
        return float(not tokens)
    return max(_overlap_f1(tokens, normalize_answer(answer).split()) for answer in answers)


def _overlap_f1(prediction: list[str], answer: list[str]) -> float:
    num_same = (Counter(prediction) & Counter(answer)).total()
    if num_same == 0:
        return 0.0
    precision = num_same / len(prediction)
    recall = num_same / len(answer)
    return 2 * precision * recall / (precision + recall)


def evaluate_squad(
    predictions: Mapping[Any, str],
    examples: Iterable[Gold],
    *,
    version_2_with_negative: bool = False,
) -> SquadScores:
    """Score predictions against gold answers.

    Args:
        predictions: Answer text by question id; "" for no answer. A question without a
            prediction scores 0, as in the v1.1 script; ids beyond the examples are ignored.
        examples: At least one question with its gold answers.
        version_2_with_negative: Whether gold answers that normalize to "" ("The", "%") are
            ignored, as the v2.0 script does; the v1.1 script compares with them. Questions
            without gold answers follow v2.0 either way (v1.1 has none).

    Returns:
        The scores of every question and their totals.

    Raises:
        InputError: There are no examples.
    """
    ids, exact_matches, f1s = [], [], []
    for example in examples:
        answers = example.answers
        if version_2_with_negative:
            answers = [answer for answer in answers if normalize_answer(answer)]
        prediction = predictions.get(example.id)
        ids.append(example.id)
        exact_matches.append(0.0 if prediction is None else exact_match_score(prediction, answers))
        f1s.append(0.0 if prediction is None else f1_score(prediction, answers))
    if not ids:
        raise InputError("examples: got 0 questions, want at least 1")
    return SquadScores(tuple(ids), np.array(exact_matches), np.array(f1s))
