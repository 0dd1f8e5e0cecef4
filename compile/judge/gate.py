"""The accuracy gate: a compiled model that lost too much is not written.

Float and INT8 answer all questions of the evaluation file. Every engine must keep the wanted part
of the float F1, and the loss must be shown to be small: the lower end of the 95 % interval of
INT8's F1 minus float's has to lie above minus max_f1_loss (a test of non-inferiority).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import missing
from bert_rt.errors import CalibrationError, ConfigError, ParityError
from bert_rt.support.progress import progress
from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation
from bert_rt.tasks.question_answering.squad import SquadExample
from compile.int8.search import LayerPlan
from compile.judge.noninferiority import METHOD, cluster_ids, percentile_interval, resampled_means
from compile.judge.temperature import score_receipt
from compile.report.changes import equal_answers

__all__ = [
    "Gate",
    "check_disjoint",
    "data_hash",
    "dataset_of",
    "make_receipt",
    "measure",
    "worst_layers",
]

# The engines that a receipt speaks of, where they can run; the first is the one float runs on.
_ENGINES = ("onnxruntime", "openvino", "native")
_MAX_NAMED_LAYERS = 5


@dataclass(frozen=True, slots=True)
class Gate:
    """What an INT8 model must keep.

    Attributes:
        min_f1_ratio: Least INT8 F1 over float F1, as measured.
        max_f1_loss: F1 points; the interval of INT8's F1 minus float's must lie above minus this.
    """

    min_f1_ratio: float = 0.99
    max_f1_loss: float = 0.5

    def __post_init__(self) -> None:
        """Check the bars.

        Raises:
            ConfigError: The ratio is not within [0, 1] or the loss not within (0, 100].
        """
        if not 0.0 <= self.min_f1_ratio <= 1.0:
            raise ConfigError(f"min_f1_ratio: got {self.min_f1_ratio}, want a number from 0 to 1")
        if not 0.0 < self.max_f1_loss <= 100.0:
            raise ConfigError(
                f"max_f1_loss: got {self.max_f1_loss}, want a number above 0, at most 100"
            )

    def check(self, receipt: Mapping[str, Any], plans: Mapping[str, LayerPlan]) -> None:
        """Compare a receipt with what is wanted.

        Args:
            receipt: What make_receipt returned.
            plans: How the layers were quantized, to name those that cost most.

        Raises:
            ParityError: An engine is under a bar; the message names engine, figures and the
                layers with the largest errors.
        """
        for engine, scores in receipt["int8"].items():
            failure = self._failure(receipt, scores)
            if failure is None:
                continue
            field, reason = failure
            raise ParityError(
                f"{field}: INT8 on {engine} has F1 {scores['f1']:.2f}, float "
                f"{receipt['float']['f1']:.2f}; {reason}. Nothing was written. Layers with the "
                f"largest relative output error: {worst_layers(plans)}"
            )

    def _failure(
        self, receipt: Mapping[str, Any], scores: Mapping[str, Any]
    ) -> tuple[str, str] | None:
        """Return the name of the bar that one engine is under, and how; None where it passes."""
        float_f1 = receipt["float"]["f1"]
        # Both are written so that NaN fails, too.
        if not scores["f1"] >= self.min_f1_ratio * float_f1:
            ratio = scores["f1"] / max(float_f1, 1e-9)
            return "min_f1_ratio", f"got a ratio of {ratio:.4f}, want at least {self.min_f1_ratio}"
        low, high = scores["f1_difference_interval"]
        if not low > -self.max_f1_loss:
            clusters = receipt["intervals"]["num_clusters"]
            return "max_f1_loss", (
                f"got a difference between {low:.2f} and {high:.2f} with 95 % confidence, want "
                f"more than {-self.max_f1_loss}; more than the {clusters} passages of this "
                "evaluation file would narrow it"
            )
        return None


def worst_layers(plans: Mapping[str, LayerPlan]) -> str:
    """Name the layers that quantization moved most, with their errors.

    Args:
        plans: How the layers were quantized.

    Returns:
        At most five of them, for a message.
    """
    worst = sorted(plans.values(), key=lambda plan: -plan.error)[:_MAX_NAMED_LAYERS]
    return ", ".join(f"{plan.name} ({plan.error:.2%})" for plan in worst)


def data_hash(path: str | Path) -> str:
    """Return the SHA-256 of a data file as it stands on the disk, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def dataset_of(eval_file: Path, total: int) -> dict[str, Any]:
    """Return the receipt's "dataset": name and SHA-256 of a data file, and its examples."""
    return {"name": eval_file.name, "sha256": data_hash(eval_file), "total": total}


def check_disjoint(
    calibration: Sequence[SquadExample],
    evaluation: Sequence[SquadExample],
    *,
    field: str = "calibration_file",
) -> None:
    """Refuse to calibrate on what is evaluated: the figures would flatter.

    Args:
        calibration: Questions that something is calibrated on.
        evaluation: Questions of the evaluation file.
        field: What the first ones are of, for the message.

    Raises:
        CalibrationError: They share a passage.
    """
    shared = {e.context for e in calibration} & {e.context for e in evaluation}
    if shared:
        raise CalibrationError(
            f"{field}: shares {len(shared)} passages with eval_file, want none; the first begins "
            f"{min(shared)[:60]!r}"
        )


def measure(
    artifact: Artifact,
    examples: Sequence[Any],
    *,
    engines: Sequence[str] = _ENGINES,
    score: Callable[..., Any],
) -> dict[str, Any]:
    """Score an artifact on every engine that can run it.

    Args:
        artifact: The artifact, on the disk or only in memory.
        examples: The questions or texts, all of them.
        engines: Engines to try; those that cannot run here are left out.
        score: Makes an evaluation of a Runtime, the examples and `progress`.

    Returns:
        Engine name to its evaluation.
    """
    able = [engine for engine in engines if missing(engine, artifact) is None]
    results = {}
    for engine in able:
        with Runtime.open(artifact, engine=engine) as runtime:
            title = f"evaluate {runtime.info.precision} on {engine}"
            with progress(title, total=len(examples), unit="examples") as shown:
                results[engine] = score(runtime, examples, progress=shown)
    return results


def make_receipt(
    eval_file: Path,
    examples: Sequence[SquadExample],
    float_result: AnswerEvaluation,
    int8_results: Mapping[str, AnswerEvaluation],
) -> dict[str, Any]:
    """Put the measured figures into the manifest's receipt.

    Args:
        eval_file: The evaluation file.
        examples: Its questions.
        float_result: The float model's evaluation.
        int8_results: Engine name to the INT8 model's evaluation; empty for a float artifact.

    Returns:
        The receipt: "dataset", "float", "intervals" (how they were made) and, with INT8, "int8"
        by engine, each with "f1" and "exact_match" in percent, "f1_interval" and
        "score_calibration" (compile.judge.temperature.score_receipt). INT8 also has
        "f1_difference" to float in percent points with "f1_difference_interval", "f1_ratio", and
        "equal_answers" with "equal_answers_interval", the last three in [0, 1].
    """
    cluster_Q = cluster_ids(example.context for example in examples)
    columns = [100 * float_result.f1_N]
    for result in int8_results.values():
        columns += [100 * result.f1_N, equal_answers(float_result, result, examples)]
    values_QM = np.stack(columns, axis=1)
    means_RM = resampled_means(values_QM, cluster_Q)
    receipt: dict[str, Any] = {
        "dataset": dataset_of(eval_file, len(examples)),
        "intervals": {**METHOD, "num_clusters": int(cluster_Q.max()) + 1},
        "float": {
            "f1": float_result.f1,
            "exact_match": float_result.exact_match,
            "f1_interval": percentile_interval(means_RM[:, 0]),
            "score_calibration": _scores(float_result),
        },
    }
    if int8_results:
        receipt["int8"] = {
            engine: {
                "f1": result.f1,
                "exact_match": result.exact_match,
                "f1_interval": percentile_interval(means_RM[:, column]),
                "f1_difference": result.f1 - float_result.f1,
                "f1_difference_interval": percentile_interval(means_RM[:, column] - means_RM[:, 0]),
                "f1_ratio": result.f1 / float_result.f1 if float_result.f1 else 0.0,
                "equal_answers": float(values_QM[:, column + 1].mean()),
                "equal_answers_interval": percentile_interval(means_RM[:, column + 1]),
                "score_calibration": _scores(result),
            }
            for column, (engine, result) in zip(
                range(1, len(columns), 2), int8_results.items(), strict=True
            )
        }
    return receipt


def _scores(result: AnswerEvaluation) -> dict[str, Any]:
    assert result.raw_score_N is not None, "a receipt's evaluations have raw scores"
    return score_receipt(
        result.score_temperature, result.raw_score_N, result.score_N, result.exact_N
    )
