"""How sure scores should be: the temperature that makes probabilities of them.

Raw scores are divided by one number before scores are made of them. It is the one with the least
log loss on examples that the artifact is not evaluated on; what that is, each task says.

Shapes: Q scored answers, classes or labels.

Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.support.progress import Progress, progress
from bert_rt.tasks.metrics import reliability

__all__ = [
    "MIN_EXAMPLES",
    "Confidence",
    "FittedTemperature",
    "best_temperature",
    "fit_temperature",
    "mean_log_loss",
    "score_receipt",
    "tune_temperature",
]

# With so few the temperature's standard deviation is a fifth of it already (on SQuAD; with 1000 it
# is a twentieth: benchmarks/results/2026-11-25-calibration.md).
MIN_EXAMPLES = 50
# Far beyond what trained models need.
_LOW, _HIGH = 0.05, 20.0
_NUM_GRID = 25
_TOLERANCE = 1e-3
_GOLDEN = (math.sqrt(5) - 1) / 2
# A score of 1 that is wrong must not cost everything.
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class FittedTemperature:
    """A temperature that was found.

    Attributes:
        score_temperature: The temperature, for the manifest; 1 where none could be found.
        log_loss: Mean log loss with it, in nats, on the examples it was found on.
        log_loss_at_one: The same with 1, which stands where nobody looks.
        total: Number of the examples.
        verdict: "fitted", or why not.
    """

    score_temperature: float
    log_loss: float
    log_loss_at_one: float
    total: int
    verdict: str


def best_temperature(log_loss: Callable[[float], float]) -> float:
    """Find the temperature with the least log loss.

    Args:
        log_loss: Gives the loss with a temperature; it may have several valleys.

    Returns:
        The temperature, from 0.05 to 20, to a thousandth: the best one of a grid, and from there a
        golden section search between its neighbours.
    """
    grid = np.linspace(math.log(_LOW), math.log(_HIGH), _NUM_GRID)
    best = int(np.argmin([log_loss(math.exp(x)) for x in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _NUM_GRID - 1)])
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = log_loss(math.exp(left)), log_loss(math.exp(right))
    while high - low > _TOLERANCE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = log_loss(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = log_loss(math.exp(right))
    return math.exp((low + high) / 2)


def tune_temperature(
    files: Mapping[str, bytes],
    fields: ManifestFields,
    examples: Sequence[Any],
    fit: Callable[[Runtime, Sequence[Any], Progress], FittedTemperature],
) -> FittedTemperature:
    """Find a model's temperature.

    Args:
        files: The artifact's files.
        fields: Its manifest's fields.
        examples: At least one that the artifact is not evaluated on.
        fit: The task's fit.

    Returns:
        The temperature on ONNX Runtime.
    """
    artifact = build_artifact(files=files, **fields)
    with (
        Runtime.open(artifact, engine="onnxruntime") as runtime,
        progress("calibrate scores", total=len(examples), unit="examples") as shown,
    ):
        return fit(runtime, examples, shown)


@dataclass(frozen=True, slots=True, eq=False)
class Confidence:
    """Scores of an evaluation, and what of them is right; Q answers, classes or labels.

    Attributes:
        score_temperature: The temperature.
        raw_score_Q: Shape (Q,), the scores with a temperature of 1; None where nobody asked.
        score_Q: Shape (Q,), the scores.
        correct_Q: Shape (Q,), each 0 or 1: whether what is scored is right.
    """

    score_temperature: float
    raw_score_Q: NDArray[np.float64] | None
    score_Q: NDArray[np.float64]
    correct_Q: NDArray[np.float64]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the scores."""
        return reliability(self.score_Q, self.correct_Q).expected_calibration_error


def score_receipt(confidence: Confidence) -> dict[str, Any]:
    """Say for the manifest's receipt how true scores are.

    Args:
        confidence: Scores with and without the temperature, and what is right.

    Returns:
        "score_temperature", "before" and "after", these with "expected_calibration_error" and, for
        every bin, "num_examples", "mean_score" and "accuracy".
    """
    assert confidence.raw_score_Q is not None, "a receipt's evaluations have raw scores"
    receipt: dict[str, Any] = {"score_temperature": confidence.score_temperature}
    for name, scores in (("before", confidence.raw_score_Q), ("after", confidence.score_Q)):
        bins = reliability(scores, confidence.correct_Q)
        receipt[name] = {
            "expected_calibration_error": bins.expected_calibration_error,
            "num_examples": bins.count_M.tolist(),
            "mean_score": bins.score_M.tolist(),
            "accuracy": bins.accuracy_M.tolist(),
        }
    return receipt


def mean_log_loss(probability_Q: NDArray[np.float64]) -> float:
    """Return the mean log loss in nats of what came true, by the probabilities that it had."""
    return -float(np.log(np.maximum(probability_Q, _LEAST_PROBABILITY)).mean())


def fit_temperature(
    log_loss: Callable[[float], float], correct_Q: NDArray[np.bool_], total: int
) -> FittedTemperature:
    """Find the temperature with the least log loss, where there is enough to find it on.

    Args:
        log_loss: Gives the mean log loss with a temperature.
        correct_Q: What of the scored was right; with all right or all wrong nothing is fitted.
        total: Number of examples.

    Returns:
        The temperature; 1, and why, where none could be found.
    """
    num_correct = int(correct_Q.sum())
    verdict = "fitted"
    if total < MIN_EXAMPLES:
        verdict = f"not fitted: got {total} examples, want at least {MIN_EXAMPLES}"
    elif num_correct in (0, correct_Q.size):
        # The best score would be 0 or 1, whatever the model says.
        verdict = (
            f"not fitted: got {num_correct} right of {correct_Q.size}, want right and wrong ones"
        )
    found = best_temperature(log_loss) if verdict == "fitted" else 1.0
    return FittedTemperature(found, log_loss(found), log_loss(1.0), total, verdict)
