"""What compiling a text classifier needs: its data, its gate on accuracy, its self-test items.

Shapes: Q texts, M measures (columns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert_rt.api import Runtime
from bert_rt.errors import CalibrationError, ConfigError, ParityError, UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel, label_names, problem_type
from bert_rt.model.config import SequenceLimits
from bert_rt.tasks.selftest import make_self_test
from bert_rt.tasks.text_classification.evaluation import ClassEvaluation
from bert_rt.tasks.text_classification.labelled import LabelledText, encode_labelled
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.int8.search import LayerPlan
from compile.judge.gate import dataset_of, worst_layers
from compile.judge.noninferiority import METHOD, percentile_interval, resampled_means
from compile.judge.temperature import score_receipt
from compile.report.changes import ChangedAnswer

__all__ = [
    "AccuracyGate",
    "calibration_sequences",
    "changed_classes",
    "check_disjoint_texts",
    "checked_labels",
    "classifier_golden_items",
    "make_class_receipt",
]

# Plain sentences of several moods and subjects, short and long, and pairs: what a classifier says
# of them is recorded, whatever its classes are.
_GOLDEN_TEXTS: tuple[str | tuple[str, str], ...] = (
    "A warm, funny and beautifully acted film.",
    "It was a dull evening, and two hours of my life that I will not get back.",
    "The parcel arrived on Tuesday.",
    "The central bank raised its key interest rate by a quarter of a point, as economists had "
    "expected, and said that inflation would stay above its target until the end of next year.",
    "Can I still change the address of my order?",
    ("A man is playing a guitar on a stage.", "Somebody is making music."),
    ("The restaurant is closed on Mondays.", "You can have dinner there on any day of the week."),
)


@dataclass(frozen=True, slots=True)
class AccuracyGate:
    """What an INT8 text classifier must keep.

    Attributes:
        min_accuracy_ratio: Least INT8 accuracy over float accuracy, as measured.
        max_accuracy_loss: Points; the interval of INT8's accuracy minus float's must lie above
            minus this. With 872 texts, SST-2's dev set, of which INT8 changes 2 %, the interval
            reaches a point to either side.
    """

    min_accuracy_ratio: float = 0.99
    max_accuracy_loss: float = 2.0

    def __post_init__(self) -> None:
        """Check the bars.

        Raises:
            ConfigError: The ratio is not within [0, 1] or the loss not within (0, 100].
        """
        if not 0.0 <= self.min_accuracy_ratio <= 1.0:
            raise ConfigError(
                f"min_accuracy_ratio: got {self.min_accuracy_ratio}, want a number from 0 to 1"
            )
        if not 0.0 < self.max_accuracy_loss <= 100.0:
            raise ConfigError(
                f"max_accuracy_loss: got {self.max_accuracy_loss}, want a number above 0, at most "
                "100"
            )

    def check(self, receipt: Mapping[str, Any], plans: Mapping[str, LayerPlan]) -> None:
        """Compare a receipt with what is wanted.

        Args:
            receipt: What make_class_receipt returned.
            plans: How the layers were quantized, to name those that cost most.

        Raises:
            ParityError: An engine is under a bar; the message names engine, figures and the
                layers with the largest errors.
        """
        float_accuracy = receipt["float"]["accuracy"]
        for engine, scores in receipt["int8"].items():
            low, high = scores["accuracy_difference_interval"]
            # Both are written so that NaN fails, too.
            if not scores["accuracy"] >= self.min_accuracy_ratio * float_accuracy:
                ratio = scores["accuracy"] / max(float_accuracy, 1e-9)
                field = "min_accuracy_ratio"
                reason = f"got a ratio of {ratio:.4f}, want at least {self.min_accuracy_ratio}"
            elif not low > -self.max_accuracy_loss:
                field = "max_accuracy_loss"
                reason = (
                    f"got a difference between {low:.2f} and {high:.2f} with 95 % confidence, want "
                    f"more than {-self.max_accuracy_loss}; more than the "
                    f"{receipt['dataset']['total']} texts of this evaluation file would narrow it"
                )
            else:
                continue
            raise ParityError(
                f"{field}: INT8 on {engine} has accuracy {scores['accuracy']:.2f}, float "
                f"{float_accuracy:.2f}; {reason}. Nothing was written. Layers with the largest "
                f"relative output error: {worst_layers(plans)}"
            )


def checked_labels(loaded: LoadedModel) -> tuple[str, ...]:
    """Return the names of a text classifier's classes.

    Args:
        loaded: The model.

    Returns:
        One name a class, in the order of the logits.

    Raises:
        UnsupportedOpError: It is no choice of one among several classes: what the artifact's
            probabilities mean would be wrong.
        CheckpointError: config.json names its classes or its kind in no known way.
    """
    labels = label_names(loaded.raw_config)
    kind = problem_type(loaded.raw_config) or "single_label_classification"
    if (
        kind != "single_label_classification"
        or len(set(labels)) < 2
        or len(set(labels)) < len(labels)
    ):
        raise UnsupportedOpError(
            f"text-classification: got problem_type {kind!r} with the classes {list(labels)}, want "
            "'single_label_classification' with two or more, all different"
        )
    return labels


def check_disjoint_texts(
    calibration: Sequence[LabelledText],
    evaluation: Sequence[LabelledText],
    *,
    field: str = "calibration_file",
) -> None:
    """Refuse to calibrate on what is evaluated: the figures would flatter.

    Args:
        calibration: Rows that something is calibrated on.
        evaluation: Rows of the evaluation file.
        field: What the first ones are of, for the message.

    Raises:
        CalibrationError: They share a text (of pairs, the whole pair).
    """
    places = {example.input: example.place for example in calibration}
    shared = [example for example in evaluation if example.input in places]
    if shared:
        raise CalibrationError(
            f"{field}: shares {len(shared)} texts with eval_file, want none; the first stands in "
            f"{places[shared[0].input]}, and in {shared[0].place}"
        )


def calibration_sequences(
    examples: Sequence[LabelledText],
    tokenizer: Tokenizer,
    limits: SequenceLimits,
    *,
    num_samples: int,
    seed: int,
    num_token_types: int = 2,
) -> list[TokenSequence]:
    """Draw texts to calibrate on.

    Args:
        examples: Rows of training data.
        tokenizer: The model's.
        limits: How long a text may be.
        num_samples: Texts wanted; fewer where there are fewer.
        seed: Of the draw.
        num_token_types: How many the model has (BertConfig.num_token_types).

    Returns:
        The texts' sequences, in random order.

    Raises:
        EmptyInputError: A text that was drawn has no token.
        InputError: A row is a pair, and the model has no token type for second texts.
    """
    order = np.random.default_rng(seed).permutation(len(examples))[:num_samples]
    drawn = [examples[index] for index in order]
    return encode_labelled(
        drawn,
        tokenizer,
        max_seq_length=limits.max_seq_length,
        num_token_types=num_token_types,
    )


def classifier_golden_items(runtime: Runtime) -> tuple[dict[str, Any], ...]:
    """Record what a compiled text classifier says of some texts.

    Args:
        runtime: The compiled model on a portable engine.

    Returns:
        Items for the manifest; no pairs of a model that takes single texts only.
    """
    takes_pairs = runtime.session.num_token_types > 1
    texts = [text for text in _GOLDEN_TEXTS if takes_pairs or isinstance(text, str)]
    return make_self_test(runtime.session, runtime.task, texts, runtime.options())


def make_class_receipt(
    eval_file: Path,
    examples: Sequence[LabelledText],
    float_result: ClassEvaluation,
    int8_results: Mapping[str, ClassEvaluation],
) -> dict[str, Any]:
    """Put the measured figures into the manifest's receipt.

    Args:
        eval_file: The evaluation file.
        examples: Its rows.
        float_result: The float model's evaluation.
        int8_results: Engine name to the INT8 model's evaluation; empty for a float artifact.

    Returns:
        The receipt: "dataset", "intervals" (how they were made), "float" and, with INT8, "int8"
        by engine, each with "accuracy" and "macro_f1" in percent, "accuracy_interval" and
        "score_calibration" (compile.judge.temperature.score_receipt). INT8 also has
        "accuracy_difference" to float in points with "accuracy_difference_interval",
        "accuracy_ratio" and "equal_labels", the last two in [0, 1].
    """
    columns = [float_result.correct_Q, *(result.correct_Q for result in int8_results.values())]
    # Texts are taken for independent: every one is a cluster of its own.
    means_RM = resampled_means(100 * np.stack(columns, axis=1), np.arange(len(examples)))
    receipt: dict[str, Any] = {
        "dataset": dataset_of(eval_file, len(examples)),
        "intervals": {
            **METHOD,
            "method": "paired bootstrap over texts, percentiles",
            "num_clusters": len(examples),
        },
        "float": {
            "accuracy": float_result.accuracy,
            "macro_f1": float_result.macro_f1,
            "accuracy_interval": percentile_interval(means_RM[:, 0]),
            "score_calibration": _scores(float_result),
        },
    }
    if int8_results:
        receipt["int8"] = {
            engine: {
                "accuracy": result.accuracy,
                "macro_f1": result.macro_f1,
                "accuracy_interval": percentile_interval(means_RM[:, column]),
                "accuracy_difference": result.accuracy - float_result.accuracy,
                "accuracy_difference_interval": percentile_interval(
                    means_RM[:, column] - means_RM[:, 0]
                ),
                "accuracy_ratio": (
                    result.accuracy / float_result.accuracy if float_result.accuracy else 0.0
                ),
                "equal_labels": float(np.mean(result.predicted_Q == float_result.predicted_Q)),
                "score_calibration": _scores(result),
            }
            for column, (engine, result) in enumerate(int8_results.items(), start=1)
        }
    return receipt


def changed_classes(
    float_result: ClassEvaluation,
    int8_result: ClassEvaluation,
    examples: Sequence[LabelledText],
    labels: Sequence[str],
) -> list[ChangedAnswer]:
    """List the texts whose class INT8 changed.

    Args:
        float_result: The float model's evaluation.
        int8_result: INT8's, of the same texts.
        examples: The texts, in the evaluations' order.
        labels: Names of the classes.

    Returns:
        The changes, those for the worse first; their F1 is 1 where the class is right, else 0.
    """
    changes = [
        ChangedAnswer(
            question=" / ".join(filter(None, (example.input.text, example.input.text_pair))),
            float_text=labels[float_result.predicted_Q[index]],
            int8_text=labels[int8_result.predicted_Q[index]],
            float_f1=float(float_result.correct_Q[index]),
            int8_f1=float(int8_result.correct_Q[index]),
        )
        for index, example in enumerate(examples)
        if float_result.predicted_Q[index] != int8_result.predicted_Q[index]
    ]
    return sorted(changes, key=lambda change: change.int8_f1 - change.float_f1)


def _scores(result: ClassEvaluation) -> dict[str, Any]:
    return score_receipt(
        result.score_temperature, result.raw_score_Q, result.score_Q, result.correct_Q
    )
