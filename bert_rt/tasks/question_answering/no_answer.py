"""How well "no answer" is said, and from which score on it is best said (SQuAD v2.0).

"No answer" wins where its score minus the best span's, the margin, is above the threshold. Both are
known of every question from one run of the model, so all thresholds are tried at once.

Shapes: Q questions.

Source: evaluate-v2.0.py of rajpurkar/SQuAD-explorer; Rajpurkar et al. 2018, arXiv:1806.03822.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.metrics import Gold, SquadScores, evaluate_squad
from bert_rt.types import Answer

__all__ = ["ScoredAnswers", "Threshold", "always_answering", "best_threshold", "score_answers"]

# The largest that AnsweringConfig takes: no margin is above it.
_NEVER = 1e6


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold that was found.

    Attributes:
        value: The threshold, for null_score_diff_threshold.
        f1: F1 in percent with it, on the questions it was found on.
        f1_at_zero: F1 with 0, which stands where nobody looks.
    """

    value: float
    f1: float
    f1_at_zero: float


@dataclass(frozen=True, slots=True, eq=False)
class ScoredAnswers:
    """Answers and how good they are.

    Attributes:
        predictions: Answer text by question id; "" for no answer.
        scores: Exact match and F1.
        no_answer: Where a question has no answer, the official figures beside those two, by their
            official names: HasAns_exact, HasAns_f1 and HasAns_total of the questions with an
            answer; NoAns_exact, NoAns_f1 and NoAns_total of those without; best_exact,
            best_exact_thresh, best_f1 and best_f1_thresh with the threshold that suits these very
            questions best. Else empty.
    """

    predictions: Mapping[str | int, str]
    scores: SquadScores
    no_answer: Mapping[str, float]


def always_answering(config: AnsweringConfig) -> AnsweringConfig:
    """Change a configuration so that every answer is a span, as score_answers wants them.

    Args:
        config: Any configuration.

    Returns:
        The same with a threshold that no margin is above.
    """
    return dataclasses.replace(config, null_score_diff_threshold=_NEVER)


def score_answers(
    examples: Sequence[Gold], answers: Iterable[Answer], config: AnsweringConfig
) -> ScoredAnswers:
    """Score what config would have answered, and what other thresholds would have.

    Args:
        examples: At least one question with its gold answers.
        answers: The best span of each, as always_answering(config) gives them.
        config: What is scored; version_2_with_negative and null_score_diff_threshold are used.

    Returns:
        Answers and scores, the same as with answers that config itself gave.
    """
    spans, predictions, margins = {}, {}, []
    is_v2 = config.version_2_with_negative
    for example, answer in zip(examples, answers, strict=True):
        margin = answer.null_score - answer.logit
        is_null = is_v2 and margin > config.null_score_diff_threshold
        spans[example.id] = answer.text
        predictions[example.id] = "" if is_null else answer.text
        margins.append(margin)
    scores = evaluate_squad(predictions, examples, version_2_with_negative=is_v2)
    has_answer_Q = np.array([bool(example.answers) for example in examples])
    figures: dict[str, float] = {}
    if not has_answer_Q.all():
        figures = _by_kind(scores, has_answer_Q)
        span_scores = evaluate_squad(spans, examples, version_2_with_negative=is_v2)
        nothing = dict.fromkeys(spans, "")
        null_scores = evaluate_squad(nothing, examples, version_2_with_negative=is_v2)
        figures |= _at_best(np.array(margins), span_scores, null_scores)
    return ScoredAnswers(predictions, scores, figures)


def _by_kind(scores: SquadScores, has_answer_Q: NDArray[np.bool_]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, chosen_Q in (("HasAns", has_answer_Q), ("NoAns", ~has_answer_Q)):
        figures[f"{name}_total"] = int(chosen_Q.sum())
        if chosen_Q.any():
            figures[f"{name}_exact"] = 100 * float(scores.exact_matches[chosen_Q].mean())
            figures[f"{name}_f1"] = 100 * float(scores.f1s[chosen_Q].mean())
    return figures


def _at_best(
    margin_Q: NDArray[np.float64], spans: SquadScores, nulls: SquadScores
) -> dict[str, float]:
    exact = best_threshold(margin_Q, spans.exact_matches, nulls.exact_matches)
    f1 = best_threshold(margin_Q, spans.f1s, nulls.f1s)
    return {
        "best_exact": exact.f1,
        "best_exact_thresh": exact.value,
        "best_f1": f1.f1,
        "best_f1_thresh": f1.value,
    }


def best_threshold(
    margin_Q: NDArray[np.float64], span_f1_Q: NDArray[np.float64], null_f1_Q: NDArray[np.float64]
) -> Threshold:
    """Find the threshold with the best F1.

    Args:
        margin_Q: Shape (Q,), float64, Q at least 1: the score of "no answer" minus the best
            span's.
        span_f1_Q: Shape (Q,), in [0, 1]: F1 of the best span.
        null_f1_Q: Shape (Q,), in [0, 1]: F1 of saying nothing.

    Returns:
        The threshold; halfway between two margins, so that engines that round differently fall on
        the same side, and of equally good ones the lowest.
    """
    order_Q = np.argsort(margin_Q, kind="stable")
    margin_Q = margin_Q[order_Q]
    # Entry n: the n questions with the least margins get their span, the others nothing.
    spans = np.concatenate([[0.0], np.cumsum(span_f1_Q[order_Q])])
    nulls = null_f1_Q.sum() - np.concatenate([[0.0], np.cumsum(null_f1_Q[order_Q])])
    total = spans + nulls
    edges = np.concatenate([[margin_Q[0] - 1], margin_Q, [margin_Q[-1] + 1]])
    # Equal margins cannot be distinguished.
    is_possible = edges[1:] > edges[:-1]
    best = int(np.argmax(np.where(is_possible, total, -np.inf)))
    at_zero = int(np.searchsorted(margin_Q, 0.0, side="right"))
    percent = 100 / len(margin_Q)
    return Threshold(
        value=float((edges[best] + edges[best + 1]) / 2),
        f1=float(total[best]) * percent,
        f1_at_zero=float(total[at_zero]) * percent,
    )
