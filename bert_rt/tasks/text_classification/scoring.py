"""How well a Runtime does on labelled texts, for every kind of head.

Shapes: Q texts, C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bert_rt.support.progress import Progress
from bert_rt.tasks.metrics import label_f1, rank_correlation, reliability
from bert_rt.tasks.text_classification.evaluation import (
    ClassEvaluation,
    classify_all,
    evaluate_classes,
)
from bert_rt.tasks.text_classification.head import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    apply_function,
)
from bert_rt.tasks.text_classification.labelled import LabelledText
from bert_rt.tasks.text_classification.targets import label_matrix, values_of

if TYPE_CHECKING:
    from bert_rt.api import Runtime

__all__ = [
    "ClassifierEvaluation",
    "LabelEvaluation",
    "ValueEvaluation",
    "evaluate_labels",
    "evaluate_texts",
    "evaluate_values",
]

# A label is given where its probability is above this.
_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class LabelEvaluation:
    """What a Runtime made of texts with several labels each; Q texts in the examples' order.

    Attributes:
        total: Number of texts, Q.
        texts_per_second: From texts to labels, tokenization included.
        predicted_QC: Shape (Q, C), bool, the labels that were given.
        gold_QC: Shape (Q, C), bool, the right ones.
        score_QC: Shape (Q, C), float64, the labels' probabilities.
        raw_score_QC: Shape (Q, C), float64, what they were with a score_temperature of 1.
        score_temperature: The artifact's.
        labels: Names of the labels.
    """

    total: int
    texts_per_second: float
    predicted_QC: NDArray[np.bool_]
    gold_QC: NDArray[np.bool_]
    score_QC: NDArray[np.float64]
    raw_score_QC: NDArray[np.float64]
    score_temperature: float
    labels: tuple[str, ...]

    @property
    def correct_QC(self) -> NDArray[np.float64]:
        """Shape (Q, C), float64, 1 where a label was rightly given or rightly not given."""
        correct_QC: NDArray[np.float64] = np.equal(self.predicted_QC, self.gold_QC).astype(float)
        return correct_QC

    @property
    def metrics(self) -> dict[str, float]:
        """The labels' mean accuracy, on which gates look first, and macro F1, in percent."""
        return {
            "label_accuracy": float(100 * self.correct_QC.mean()),
            "macro_f1": label_f1(self.predicted_QC, self.gold_QC),
        }

    @property
    def accuracy_C(self) -> NDArray[np.float64]:
        """Shape (C,), every label's accuracy in percent."""
        accuracy_C: NDArray[np.float64] = np.asarray(100 * self.correct_QC.mean(axis=0))
        return accuracy_C

    @property
    def predictions(self) -> dict[str, str]:
        """Names of the labels that were given, with commas between them, by row from 0."""
        return {
            str(row): ", ".join(self.labels[index] for index in np.flatnonzero(given_C))
            for row, given_C in enumerate(self.predicted_QC)
        }

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the probabilities of all labels."""
        gold = self.gold_QC.astype(np.float64).ravel()
        return reliability(self.score_QC.ravel(), gold).expected_calibration_error

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        return {
            **self.metrics,
            "accuracy_by_label": dict(zip(self.labels, self.accuracy_C.tolist(), strict=True)),
            "total": self.total,
            "expected_calibration_error": self.calibration_error,
            "texts_per_second": self.texts_per_second,
        }

    def describe(self) -> str:
        """Return the figures as lines of text."""
        figures = self.metrics
        worst = int(self.accuracy_C.argmin())
        return (
            f"label accuracy {figures['label_accuracy']:.2f}, macro F1 {figures['macro_f1']:.2f} "
            f"over {self.total} texts and {len(self.labels)} labels\n"
            f"least accuracy of a label: {self.labels[worst]} {self.accuracy_C[worst]:.2f}\n"
            f"expected calibration error of the scores {self.calibration_error:.4f}\n"
            f"{self.texts_per_second:.1f} texts/s, text to labels,"
        )


@dataclass(frozen=True, slots=True, eq=False)
class ValueEvaluation:
    """What a Runtime made of texts with a number each; Q texts in the examples' order.

    Attributes:
        total: Number of texts, Q.
        texts_per_second: From texts to values, tokenization included.
        value_Q: Shape (Q,), float64, the scores.
        gold_Q: Shape (Q,), float64, the right values.
    """

    total: int
    texts_per_second: float
    value_Q: NDArray[np.float64]
    gold_Q: NDArray[np.float64]

    @property
    def metrics(self) -> dict[str, float]:
        """Spearman's rank correlation in percent, on which gates look first, and the mean error."""
        return {
            "spearman": 100 * rank_correlation(self.value_Q, self.gold_Q),
            "mean_absolute_error": float(np.abs(self.value_Q - self.gold_Q).mean()),
        }

    @property
    def predictions(self) -> dict[str, str]:
        """The values, as text, by row from 0."""
        return {str(row): repr(value) for row, value in enumerate(self.value_Q.tolist())}

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        return {**self.metrics, "total": self.total, "texts_per_second": self.texts_per_second}

    def describe(self) -> str:
        """Return the figures as lines of text."""
        figures = self.metrics
        return (
            f"Spearman's rank correlation {figures['spearman']:.2f}, mean absolute error "
            f"{figures['mean_absolute_error']:.4f} over {self.total} texts\n"
            f"{self.texts_per_second:.1f} texts/s, text to value,"
        )


ClassifierEvaluation: TypeAlias = ClassEvaluation | LabelEvaluation | ValueEvaluation


def evaluate_labels(
    runtime: Runtime, examples: Sequence[LabelledText], *, progress: Progress | None = None
) -> LabelEvaluation:
    """Give all texts their labels and compare.

    Args:
        runtime: A Runtime with several labels a text.
        examples: At least one text.
        progress: Is told of every text.

    Returns:
        Labels, probabilities and speed.

    Raises:
        InputError: There are no examples, a text cannot be classified, or a label is none of the
            artifact's.
        EngineError: The engine failed.
    """
    gold_QC = label_matrix(examples, runtime.manifest.labels)
    results, seconds = classify_all(runtime, examples, progress)
    logits_QC = np.array([result.logits for result in results])
    temperature = runtime.manifest.score_temperature
    raw_score_QC = apply_function("sigmoid", logits_QC)
    return LabelEvaluation(
        total=len(examples),
        texts_per_second=len(examples) / seconds,
        predicted_QC=raw_score_QC > _THRESHOLD,
        gold_QC=gold_QC,
        score_QC=apply_function("sigmoid", logits_QC / temperature),
        raw_score_QC=raw_score_QC,
        score_temperature=temperature,
        labels=runtime.manifest.labels,
    )


def evaluate_values(
    runtime: Runtime, examples: Sequence[LabelledText], *, progress: Progress | None = None
) -> ValueEvaluation:
    """Give all texts their values and compare.

    Args:
        runtime: A Runtime with a regression's head.
        examples: At least one text.
        progress: Is told of every text.

    Returns:
        Values and speed.

    Raises:
        InputError: There are no examples, or a text cannot be computed.
        EngineError: The engine failed.
    """
    results, seconds = classify_all(runtime, examples, progress)
    return ValueEvaluation(
        total=len(examples),
        texts_per_second=len(examples) / seconds,
        value_Q=np.array([result.score for result in results]),
        gold_Q=values_of(examples),
    )


_EVALUATIONS: dict[str, Callable[..., ClassifierEvaluation]] = {
    SINGLE_LABEL: evaluate_classes,
    MULTI_LABEL: evaluate_labels,
    REGRESSION: evaluate_values,
}


def evaluate_texts(
    runtime: Runtime, examples: Sequence[LabelledText], *, progress: Progress | None = None
) -> ClassifierEvaluation:
    """Evaluate a Runtime by the kind of its head; arguments as in evaluate_classes."""
    return _EVALUATIONS[runtime.head.problem_type](runtime, examples, progress=progress)
