"""The accuracy gate: a compiled model that lost too much is not written.

Float and INT8 answer all questions of the evaluation file; the portable engines must each keep the
wanted part of the float F1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert_rt.api import Runtime
from bert_rt.artifact import load_artifact
from bert_rt.engine import missing
from bert_rt.errors import CalibrationError, ConfigError, ParityError
from bert_rt.evaluation import Evaluation, evaluate
from bert_rt.progress import progress
from bert_rt.squad import SquadExample
from compile.search import LayerPlan

__all__ = ["Gate", "check_disjoint", "data_hash", "make_receipt", "measure"]

# The engines that a receipt speaks of, where they can run; the first is the one float runs on.
_ENGINES = ("onnxruntime", "openvino", "native")
_MAX_NAMED_LAYERS = 5


@dataclass(frozen=True, slots=True)
class Gate:
    """What an INT8 model must keep.

    Attributes:
        min_f1_ratio: Least INT8 F1 over float F1.
    """

    min_f1_ratio: float = 0.99

    def __post_init__(self) -> None:
        """Check the bar.

        Raises:
            ConfigError: It is not within [0, 1].
        """
        if not 0.0 <= self.min_f1_ratio <= 1.0:
            raise ConfigError(f"min_f1_ratio: got {self.min_f1_ratio}, want a number from 0 to 1")

    def check(self, receipt: Mapping[str, Any], plans: Mapping[str, LayerPlan]) -> None:
        """Compare a receipt with what is wanted.

        Args:
            receipt: What measure returned for both models.
            plans: How the layers were quantized, to name those that cost most.

        Raises:
            ParityError: An engine's F1 is under the bar; the message names engine, figures and
                the layers with the largest errors.
        """
        wanted = self.min_f1_ratio * receipt["float"]["f1"]
        for engine, scores in receipt["int8"].items():
            if scores["f1"] >= wanted:
                continue
            worst = sorted(plans.values(), key=lambda plan: -plan.error)[:_MAX_NAMED_LAYERS]
            named = ", ".join(f"{plan.name} ({plan.error:.2%})" for plan in worst)
            raise ParityError(
                f"min_f1_ratio: INT8 on {engine} has F1 {scores['f1']:.2f}, float "
                f"{receipt['float']['f1']:.2f}; got a ratio of "
                f"{scores['f1'] / max(receipt['float']['f1'], 1e-9):.4f}, want at least "
                f"{self.min_f1_ratio}. Nothing was written. Layers with the largest relative "
                f"output error: {named}"
            )


def data_hash(path: str | Path) -> str:
    """Return the SHA-256 of a data file as it stands on the disk, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_disjoint(calibration: Sequence[SquadExample], evaluation: Sequence[SquadExample]) -> None:
    """Refuse to calibrate on what is evaluated: the figures would flatter.

    Args:
        calibration: Questions of the calibration file.
        evaluation: Questions of the evaluation file.

    Raises:
        CalibrationError: They share a passage.
    """
    shared = {e.context for e in calibration} & {e.context for e in evaluation}
    if shared:
        raise CalibrationError(
            f"calibration_file: shares {len(shared)} passages with eval_file, want none; the "
            f"first begins {min(shared)[:60]!r}"
        )


def measure(
    artifact_dir: Path, examples: Sequence[SquadExample], *, engines: Sequence[str] = _ENGINES
) -> dict[str, Evaluation]:
    """Answer all questions on every engine that can run an artifact.

    Args:
        artifact_dir: The artifact.
        examples: The questions, all of them.
        engines: Engines to try; those that cannot run here are left out.

    Returns:
        Engine name to its evaluation.
    """
    artifact = load_artifact(artifact_dir)
    able = [engine for engine in engines if missing(engine, artifact) is None]
    # Each Runtime reads the files for itself.
    del artifact
    results = {}
    for engine in able:
        with Runtime.load(artifact_dir, engine=engine) as runtime:
            title = f"evaluate {runtime.info.precision} on {engine}"
            with progress(title, total=len(examples), unit="questions") as shown:
                results[engine] = evaluate(runtime, examples, progress=shown)
    return results


def make_receipt(
    eval_file: Path,
    examples: Sequence[SquadExample],
    float_result: Evaluation,
    int8_results: Mapping[str, Evaluation],
) -> dict[str, Any]:
    """Put the measured figures into the manifest's receipt.

    Args:
        eval_file: The evaluation file.
        examples: Its questions.
        float_result: The float model's evaluation.
        int8_results: Engine name to the INT8 model's evaluation; empty for a float artifact.

    Returns:
        The receipt: "dataset", "float" and, with INT8, "int8" by engine, each with "f1" and
        "exact_match" in percent; INT8 also with "f1_ratio" and "equal_answers", both in [0, 1].
    """
    receipt: dict[str, Any] = {
        "dataset": {
            "name": eval_file.name,
            "sha256": data_hash(eval_file),
            "total": len(examples),
        },
        "float": {"f1": float_result.f1, "exact_match": float_result.exact_match},
    }
    if int8_results:
        receipt["int8"] = {
            engine: {
                "f1": result.f1,
                "exact_match": result.exact_match,
                "f1_ratio": result.f1 / float_result.f1 if float_result.f1 else 0.0,
                "equal_answers": _agreement(result.predictions, float_result.predictions),
            }
            for engine, result in int8_results.items()
        }
    return receipt


def _agreement(predictions: Mapping[str, str], reference: Mapping[str, str]) -> float:
    return float(np.mean([predictions[name] == text for name, text in reference.items()]))
