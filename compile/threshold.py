"""When to say "no answer": the threshold with the best F1 on questions that were set aside.

"No answer" wins where its score minus the best span's, the margin, is above the threshold. Both are
known of every question from one run of the model, so all thresholds are tried at once.

Shapes: Q questions.

Source: evaluate-v2.0.py of rajpurkar/SQuAD-explorer (find_best_thresh).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact import write_artifact
from bert_rt.manifest import ManifestFields
from bert_rt.metrics import evaluate_squad
from bert_rt.progress import progress
from bert_rt.squad import SquadExample

__all__ = ["Threshold", "best_threshold", "tune_threshold"]

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
    # Equal margins cannot be told apart.
    is_possible = edges[1:] > edges[:-1]
    best = int(np.argmax(np.where(is_possible, total, -np.inf)))
    at_zero = int(np.searchsorted(margin_Q, 0.0, side="right"))
    percent = 100 / len(margin_Q)
    return Threshold(
        value=float((edges[best] + edges[best + 1]) / 2),
        f1=float(total[best]) * percent,
        f1_at_zero=float(total[at_zero]) * percent,
    )


def tune_threshold(
    files: Mapping[str, bytes], fields: ManifestFields, examples: Sequence[SquadExample]
) -> Threshold:
    """Find a model's threshold.

    Args:
        files: The artifact's files.
        fields: Its manifest's fields; limits with version_2_with_negative.
        examples: Questions with and without answers, at least one, that the artifact is not
            evaluated on.

    Returns:
        The threshold on ONNX Runtime.
    """
    config = dataclasses.replace(fields["limits"], null_score_diff_threshold=_NEVER)
    predictions, margins = {}, []
    with tempfile.TemporaryDirectory(prefix="bert-rt-") as scratch:
        artifact_dir = Path(scratch) / "artifact"
        write_artifact(artifact_dir, files=files, **fields)
        with (
            Runtime.load(artifact_dir, engine="onnxruntime", config=config) as runtime,
            progress("tune threshold", total=len(examples), unit="questions") as shown,
        ):
            answers = runtime.stream((e.question, e.context) for e in examples)
            for example, answer in zip(examples, answers, strict=True):
                predictions[example.id] = answer.text
                margins.append(answer.null_score - answer.logit)
                shown.advance(1)
    spans = evaluate_squad(predictions, examples, version_2_with_negative=True)
    nothing = dict.fromkeys(predictions, "")
    nulls = evaluate_squad(nothing, examples, version_2_with_negative=True)
    return best_threshold(np.array(margins), spans.f1s, nulls.f1s)
