"""The receipt of an artifact: what was measured when it was compiled, on which data, how surely."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.registry import judged_engines, missing
from bert_rt.support.progress import progress
from bert_rt.tasks.base import Evaluation
from compile.judge.gate import Measure
from compile.judge.noninferiority import METHOD, percentile_interval, resampled_means
from compile.judge.temperature import Confidence, score_receipt

__all__ = ["Judged", "data_hash", "float_engine", "make_receipt", "measure"]


class Judged(Protocol):
    """What a receipt needs of a task."""

    @property
    def measure(self) -> Measure:
        """What is measured, and its names."""
        ...

    def data_files(self, path: Path) -> Sequence[Path]:
        """Return the files that the name of a data file stands for."""
        ...

    def clusters(self, examples: Sequence[Any]) -> NDArray[np.intp]:
        """Number what the bootstrap draws: shape (Q,), from 0 on without gaps."""
        ...

    def resample(
        self, evaluations: Sequence[Any], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the gate's metric of every evaluation in every draw: shape (R, evaluations)."""
        ...

    def compare(
        self, reference: Any, int8: Any, examples: Sequence[Any]
    ) -> Mapping[str, float | NDArray[np.float64]]:
        """Compare INT8 with float: figures, or a value an example, for mean and interval."""
        ...

    def confidence(self, evaluation: Any) -> Confidence | None:
        """Return scores and what of them is right; None where scores are no probabilities."""
        ...


def float_engine() -> str:
    """Return the engine that float models are measured on."""
    return judged_engines()[0]


def data_hash(*paths: str | Path) -> str:
    """Return the SHA-256 of data files as they stand on the disk, one behind the other."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def measure(
    artifact: Artifact,
    examples: Sequence[Any],
    *,
    engines: Sequence[str] | None = None,
    score: Callable[..., Any],
) -> dict[str, Any]:
    """Score an artifact on every engine that can run it.

    Args:
        artifact: The artifact, on the disk or only in memory.
        examples: The questions or texts, all of them.
        engines: Engines to try, None for all that a receipt speaks of; those that cannot run here
            are left out.
        score: Makes an evaluation of a Runtime, the examples and `progress`.

    Returns:
        Engine name to its evaluation.
    """
    wanted = judged_engines() if engines is None else engines
    able = [engine for engine in wanted if missing(engine, artifact) is None]
    results = {}
    for engine in able:
        with Runtime.open(artifact, engine=engine) as runtime:
            title = f"evaluate {runtime.info.precision} on {engine}"
            with progress(title, total=len(examples), unit="examples") as shown:
                results[engine] = score(runtime, examples, progress=shown)
    return results


def make_receipt(
    task: Judged,
    eval_file: Path,
    examples: Sequence[Any],
    reference: Evaluation,
    int8: Mapping[str, Evaluation],
) -> dict[str, Any]:
    """Put the measured figures into the manifest's receipt.

    Args:
        task: Says what is measured.
        eval_file: The evaluation file.
        examples: Its rows.
        reference: The float model's evaluation.
        int8: Engine name to the INT8 model's evaluation; empty for a float artifact.

    Returns:
        The receipt: "dataset", "intervals" (how they were made), "float" and, with INT8, "int8" by
        engine, each with the task's metrics, METRIC_interval of the gate's metric and, where
        scores are probabilities, "score_calibration" (compile.judge.temperature.score_receipt).
        INT8 also has METRIC_difference to float with METRIC_difference_interval, METRIC_ratio, and
        what the task compares.
    """
    metric = task.measure.metric
    cluster_Q = task.clusters(examples)
    drawn_RE = task.resample([reference, *int8.values()], cluster_Q)
    receipt: dict[str, Any] = {
        "dataset": {
            "name": eval_file.name,
            "sha256": data_hash(*task.data_files(eval_file)),
            "total": len(examples),
        },
        "intervals": {
            **METHOD,
            "method": f"paired bootstrap over {task.measure.clusters}, percentiles",
            "num_clusters": int(cluster_Q.max()) + 1,
        },
        "float": _scores(task, reference, drawn_RE[:, 0]),
    }
    if int8:
        receipt["int8"] = {}
    for column, (engine, result) in enumerate(int8.items(), start=1):
        wanted, got = reference.metrics[metric], result.metrics[metric]
        difference = percentile_interval(drawn_RE[:, column] - drawn_RE[:, 0])
        receipt["int8"][engine] = {
            **_scores(task, result, drawn_RE[:, column]),
            f"{metric}_difference": got - wanted,
            f"{metric}_difference_interval": difference,
            f"{metric}_ratio": got / wanted if wanted else 0.0,
            **_compared(task.compare(reference, result, examples), cluster_Q),
        }
    return receipt


def _scores(task: Judged, result: Evaluation, drawn_R: NDArray[np.float64]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        **{name: result.metrics[name] for name in task.measure.metrics},
        f"{task.measure.metric}_interval": percentile_interval(drawn_R),
    }
    confidence = task.confidence(result)
    if confidence is not None:
        figures["score_calibration"] = score_receipt(confidence)
    return figures


def _compared(
    figures: Mapping[str, float | NDArray[np.float64]], cluster_Q: NDArray[np.intp]
) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name, figure in figures.items():
        if isinstance(figure, np.ndarray):
            summary[name] = float(figure.mean())
            drawn_R1 = resampled_means(figure[:, None], cluster_Q)
            summary[f"{name}_interval"] = percentile_interval(drawn_R1[:, 0])
        else:
            summary[name] = figure
    return summary
