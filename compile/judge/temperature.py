"""How sure scores should be: the temperature that makes probabilities of them.

Raw scores are divided by one number before the softmax. It is the one with the least log loss on
examples that the artifact is not evaluated on: of questions that the best answer is exactly right,
of texts that the right class is the right one.

Shapes: Q questions or texts, C classes.

Source: Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.support.progress import Progress, progress
from bert_rt.tasks.metrics import reliability
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.evaluation import stream_logits
from bert_rt.tasks.question_answering.metrics import evaluate_squad
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.tasks.text_classification.labelled import LabelledText, class_indices

__all__ = [
    "MIN_EXAMPLES",
    "FittedTemperature",
    "best_temperature",
    "fit_class_temperature",
    "fit_span_temperature",
    "score_receipt",
    "tune_temperature",
]

_ANSWERING = QuestionAnswering()
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


def fit_span_temperature(
    runtime: Runtime, examples: Sequence[SquadExample], progress: Progress
) -> FittedTemperature:
    """Fit the temperature of a model that answers questions.

    Args:
        runtime: The model.
        examples: At least one question.
        progress: Is told of every question.

    Returns:
        The temperature with which the best answer's score is the probability that it is exactly
        right.
    """
    options = runtime.options()
    kept, predictions = [], {}
    for example, (prepared, logits) in zip(examples, stream_logits(runtime, examples), strict=True):
        kept.append((prepared, logits))
        predictions[example.id] = _ANSWERING.decode(prepared, logits, options).text
        progress.advance()
    is_v2 = runtime.limits.version_2_with_negative
    correct_Q = evaluate_squad(
        predictions, examples, version_2_with_negative=is_v2
    ).exact_matches.astype(bool)

    def log_loss(temperature: float) -> float:
        at = replace(options, score_temperature=temperature)
        score_Q = np.array([_ANSWERING.decode(*item, at).score for item in kept])
        return _mean_log(np.where(correct_Q, score_Q, 1 - score_Q))

    return _fit(log_loss, correct_Q)


def fit_class_temperature(
    runtime: Runtime, examples: Sequence[LabelledText], progress: Progress
) -> FittedTemperature:
    """Fit the temperature of a model that classifies texts.

    Args:
        runtime: The model.
        examples: At least one text.
        progress: Is told of every text.

    Returns:
        The temperature with which the right classes are likeliest.
    """
    options = runtime.options()
    rows = []
    for result in runtime.ask_stream((example.input for example in examples), options):
        rows.append(result.logits)
        progress.advance()
    logits_QC = np.array(rows)
    logits_QC -= logits_QC.max(axis=1, keepdims=True)
    gold_Q = np.array(class_indices(examples, runtime.manifest.labels))
    correct_Q = logits_QC.argmax(axis=1) == gold_Q

    def log_loss(temperature: float) -> float:
        weights_QC = np.exp(logits_QC / temperature)
        gold_weight_Q = weights_QC[np.arange(len(gold_Q)), gold_Q]
        return _mean_log(gold_weight_Q / weights_QC.sum(axis=1))

    return _fit(log_loss, correct_Q)


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


def score_receipt(
    score_temperature: float,
    raw_score_Q: NDArray[np.float64],
    score_Q: NDArray[np.float64],
    correct_Q: NDArray[np.float64],
) -> dict[str, Any]:
    """Say for the manifest's receipt how true scores are.

    Args:
        score_temperature: The temperature.
        raw_score_Q: Shape (Q,), the best answers' scores with a temperature of 1.
        score_Q: Shape (Q,), their scores.
        correct_Q: Shape (Q,), each 0 or 1: whether they are right.

    Returns:
        "score_temperature", "before" and "after", these with "expected_calibration_error" and, for
        every bin, "num_examples", "mean_score" and "accuracy".
    """
    told: dict[str, Any] = {"score_temperature": score_temperature}
    for name, scores in (("before", raw_score_Q), ("after", score_Q)):
        bins = reliability(scores, correct_Q)
        told[name] = {
            "expected_calibration_error": bins.expected_calibration_error,
            "num_examples": bins.count_M.tolist(),
            "mean_score": bins.score_M.tolist(),
            "accuracy": bins.accuracy_M.tolist(),
        }
    return told


def _mean_log(probability_Q: NDArray[np.float64]) -> float:
    return -float(np.log(np.maximum(probability_Q, _LEAST_PROBABILITY)).mean())


def _fit(log_loss: Callable[[float], float], correct_Q: NDArray[np.bool_]) -> FittedTemperature:
    total, num_correct = len(correct_Q), int(correct_Q.sum())
    verdict = "fitted"
    if total < MIN_EXAMPLES:
        verdict = f"not fitted: got {total} examples, want at least {MIN_EXAMPLES}"
    elif num_correct in (0, total):
        # The best score would be 0 or 1, whatever the model says.
        verdict = f"not fitted: got {num_correct} right of {total}, want right and wrong ones"
    found = best_temperature(log_loss) if verdict == "fitted" else 1.0
    return FittedTemperature(found, log_loss(found), log_loss(1.0), total, verdict)
