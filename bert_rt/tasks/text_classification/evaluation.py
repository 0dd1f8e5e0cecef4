"""How well and how fast a Runtime classifies a set of texts, one class a text.

bert_rt.tasks.text_classification.scoring has the other kinds of heads.

Shapes: Q texts, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputError
from bert_rt.support.progress import Progress
from bert_rt.tasks.metrics import macro_f1, reliability
from bert_rt.tasks.text_classification.classifying import TextClassification
from bert_rt.tasks.text_classification.labelled import LabelledText, class_indices
from bert_rt.types import Classification

if TYPE_CHECKING:
    from bert_rt.api import Runtime

__all__ = ["ClassEvaluation", "classify_all", "evaluate_classes"]

_TASK = TextClassification()


@dataclass(frozen=True, slots=True, eq=False)
class ClassEvaluation:
    """What a Runtime made of labelled texts; Q texts in the examples' order.

    Attributes:
        accuracy: Share of the texts given their right class, in percent.
        macro_f1: Mean of the classes' F1, in percent.
        total: Number of texts, Q.
        texts_per_second: From texts to classes, tokenization included.
        predicted_Q: Shape (Q,), int64, the class that was given.
        correct_Q: Shape (Q,), float64, each 0 or 1.
        score_Q: Shape (Q,), float64, the scores of the classes that were given.
        raw_score_Q: Shape (Q,), float64, what they were with a score_temperature of 1.
        score_temperature: The artifact's.
        labels: Names of the classes.
    """

    accuracy: float
    macro_f1: float
    total: int
    texts_per_second: float
    predicted_Q: NDArray[np.int64]
    correct_Q: NDArray[np.float64]
    score_Q: NDArray[np.float64]
    raw_score_Q: NDArray[np.float64]
    score_temperature: float
    labels: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracy, on which gates look first, and macro F1."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1}

    @property
    def predictions(self) -> dict[str, str]:
        """Name of the class that was given, by row from 0."""
        given = enumerate(self.predicted_Q.tolist())
        return {str(row): self.labels[index] for row, index in given}

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the scores."""
        return reliability(self.score_Q, self.correct_Q).expected_calibration_error

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "total": self.total,
            "expected_calibration_error": self.calibration_error,
            "texts_per_second": self.texts_per_second,
        }

    def describe(self) -> str:
        """Return the figures as lines of text."""
        return (
            f"accuracy {self.accuracy:.2f}, macro F1 {self.macro_f1:.2f} over {self.total} "
            f"texts\nexpected calibration error of the scores {self.calibration_error:.4f}\n"
            f"{self.texts_per_second:.1f} texts/s, text to class,"
        )


def evaluate_classes(
    runtime: Runtime, examples: Sequence[LabelledText], *, progress: Progress | None = None
) -> ClassEvaluation:
    """Classify all texts and count the right ones.

    Args:
        runtime: What classifies.
        examples: At least one text.
        progress: Is told of every text.

    Returns:
        Scores, classes and speed.

    Raises:
        InputError: There are no examples, a text cannot be classified, or a label is none of the
            artifact's.
        EngineError: The engine failed.
    """
    gold_Q = np.array(class_indices(examples, runtime.manifest.labels), np.int64)
    results, seconds = classify_all(runtime, examples, progress)
    predicted_Q = np.array([result.index for result in results], np.int64)
    logits_QC = np.array([result.logits for result in results])
    correct_Q = (predicted_Q == gold_Q).astype(np.float64)
    return ClassEvaluation(
        accuracy=float(100 * correct_Q.mean()),
        macro_f1=macro_f1(predicted_Q, gold_Q),
        total=len(examples),
        texts_per_second=len(examples) / seconds,
        predicted_Q=predicted_Q,
        correct_Q=correct_Q,
        score_Q=np.array([result.score for result in results]),
        raw_score_Q=1 / np.exp(logits_QC - logits_QC.max(axis=1, keepdims=True)).sum(axis=1),
        score_temperature=runtime.manifest.score_temperature,
        labels=runtime.manifest.labels,
    )


def classify_all(
    runtime: Runtime, examples: Sequence[LabelledText], progress: Progress | None
) -> tuple[list[Classification], float]:
    """Classify the texts of a file, and take the time.

    Args:
        runtime: What classifies.
        examples: The rows.
        progress: Is told of every text.

    Returns:
        The best class of every text, with its logits, and the seconds that all took.

    Raises:
        InputError: There are no examples, or a text cannot be classified.
        EngineError: The engine failed.
    """
    if not examples:
        raise InputError("examples: got 0 texts, want at least 1")
    options = runtime.options(_TASK, top_k=1)
    results = []
    start_s = time.perf_counter()
    inputs = (example.input for example in examples)
    for result in runtime.session.stream(_TASK, inputs, options):
        results.append(result)
        if progress is not None:
            progress.advance()
    return results, time.perf_counter() - start_s
