"""Measures that tasks share: F1, rank correlation, and how far scores are from probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NUM_BINS",
    "Reliability",
    "label_f1",
    "macro_f1",
    "rank_correlation",
    "reliability",
]

NUM_BINS = 15


def macro_f1(predicted_Q: NDArray[np.integer], gold_Q: NDArray[np.integer]) -> float:
    """Average the F1 of all classes, each with the same weight however rare it is.

    Args:
        predicted_Q: Shape (Q,), the class that was given, Q at least 1.
        gold_Q: Shape (Q,), the right class.

    Returns:
        In percent; a class that is neither given nor right anywhere does not count.
    """
    num_classes = int(max(predicted_Q.max(), gold_Q.max())) + 1
    hits_C = np.bincount(gold_Q[predicted_Q == gold_Q], minlength=num_classes)
    total_C = np.bincount(predicted_Q, minlength=num_classes)
    total_C += np.bincount(gold_Q, minlength=num_classes)
    # 2 TP / (2 TP + FP + FN), which is 0 and not 0 / 0 for a class without a hit.
    is_seen_C = total_C > 0
    return float(100 * (2 * hits_C[is_seen_C] / total_C[is_seen_C]).mean())


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How often answers are right, by their score; M bins of equal width.

    Attributes:
        count_M: Shape (M,), int64, answers with a score in the bin.
        score_M: Shape (M,), in [0, 1], their mean score; 0 in an empty bin.
        accuracy_M: Shape (M,), in [0, 1], the share of them that is right; 0 in an empty bin.
    """

    count_M: NDArray[np.int64]
    score_M: NDArray[np.float64]
    accuracy_M: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of a bin's score from its accuracy, each answer with the same weight."""
        distance_M = np.abs(self.accuracy_M - self.score_M)
        return float(np.average(distance_M, weights=self.count_M))


def reliability(
    score_Q: NDArray[np.float64], correct_Q: NDArray[np.float64], *, num_bins: int = NUM_BINS
) -> Reliability:
    """Compare scores with how often they are right.

    Args:
        score_Q: Shape (Q,), in [0, 1], Q at least 1: the score of every answer.
        correct_Q: Shape (Q,), each 0 or 1: whether it is right.
        num_bins: Bins that [0, 1] is cut into, M; a score between two belongs to the lower one.

    Returns:
        The bins, and with them the expected calibration error.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    bin_Q = np.clip(np.ceil(score_Q * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    count_M = np.bincount(bin_Q, minlength=num_bins)
    divisor_M = np.maximum(count_M, 1)
    return Reliability(
        count_M=count_M,
        score_M=np.bincount(bin_Q, score_Q, num_bins) / divisor_M,
        accuracy_M=np.bincount(bin_Q, correct_Q, num_bins) / divisor_M,
    )


def label_f1(predicted_QC: NDArray[np.bool_], gold_QC: NDArray[np.bool_]) -> float:
    """Average the F1 of all labels, each with the same weight however rare it is.

    Args:
        predicted_QC: Shape (Q, C), which labels were given to Q texts.
        gold_QC: Shape (Q, C), which are right.

    Returns:
        In percent; a label that is neither given nor right anywhere does not count, and where no
        label counts it is 100: there was nothing to find, and nothing was given.
    """
    hits_C = (predicted_QC & gold_QC).sum(axis=0)
    total_C = predicted_QC.sum(axis=0) + gold_QC.sum(axis=0)
    is_seen_C = total_C > 0
    if not is_seen_C.any():
        return 100.0
    return float(100 * (2 * hits_C[is_seen_C] / total_C[is_seen_C]).mean())


def rank_correlation(x_Q: NDArray[np.float64], y_Q: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation.

    Args:
        x_Q: Shape (Q,).
        y_Q: Shape (Q,).

    Returns:
        From -1 to 1; equal values share the mean of their ranks. 0 where all values of one side
        are equal: they rank nothing.
    """
    x_Q, y_Q = _ranks(x_Q), _ranks(y_Q)
    x_Q, y_Q = x_Q - x_Q.mean(), y_Q - y_Q.mean()
    scale = float(np.sqrt((x_Q**2).sum() * (y_Q**2).sum()))
    return float((x_Q * y_Q).sum() / scale) if scale else 0.0


def _ranks(values_Q: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place_Q, count_V = np.unique(values_Q, return_inverse=True, return_counts=True)
    ranks_V: NDArray[np.float64] = np.cumsum(count_V) - (count_V - 1) / 2
    return ranks_V[place_Q]
