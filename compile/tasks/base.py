"""What of a compile depends on the task: its data, its measure and its gate; one class a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bert_rt.api import Runtime
from bert_rt.model.checkpoint import LoadedModel, read_config, task_of
from bert_rt.model.config import AnsweringConfig, Columns, SequenceLimits, from_dict
from bert_rt.support.faults import Dropped
from bert_rt.support.progress import Progress
from bert_rt.tasks.base import Limits
from bert_rt.tasks.question_answering.answering import QuestionAnswering as AnsweringTask
from bert_rt.tasks.question_answering.evaluation import evaluate
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from bert_rt.tasks.text_classification.classifying import TextClassification as ClassifyingTask
from bert_rt.tasks.text_classification.evaluation import evaluate_classes
from bert_rt.tasks.text_classification.labelled import LabelledText, class_indices, read_labelled
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.int8.calibrate import calibration_features
from compile.int8.control import Verdict, judge
from compile.int8.search import LayerPlan
from compile.judge.gate import Gate, check_disjoint, make_receipt
from compile.judge.temperature import (
    FittedTemperature,
    fit_class_temperature,
    fit_span_temperature,
)
from compile.report.changes import ChangedAnswer, changed_answers
from compile.tasks.golden import golden_items
from compile.tasks.text_classification import (
    AccuracyGate,
    calibration_sequences,
    changed_classes,
    check_disjoint_texts,
    checked_labels,
    classifier_golden_items,
    make_class_receipt,
)

__all__ = ["CompileTask", "QuestionAnswering", "TextClassification", "default_limits", "make_task"]


class CompileTask(Protocol):
    """One task's part in a compile. Examples are what its own read returns."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits; none for question answering."""
        ...

    @property
    def bars(self) -> Mapping[str, float]:
        """What the gate wants, by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names and kinds of the graph's outputs."""
        ...

    def limits(self, limits: AnsweringConfig) -> Limits:
        """Return the limits that the artifact gets."""
        ...

    def read(self, path: Path, dropped: Dropped | None = None) -> list[Any]:
        """Read a data file, checked against the model; raises InputError unless dropped counts."""
        ...

    def check_disjoint(
        self, calibration: Sequence[Any], evaluation: Sequence[Any], *, field: str
    ) -> None:
        """Raise CalibrationError where the two share a text; field names the first ones' file."""
        ...

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[Any], progress: Progress
    ) -> FittedTemperature:
        """Find the temperature that makes probabilities of a model's scores."""
        ...

    def passage(self, example: Any) -> Hashable:
        """Return what an example's text is known by."""
        ...

    def judge(self, reference: Any, int8: Any) -> Verdict:
        """Tell whether INT8 keeps what is wanted, by what was measured alone."""
        ...

    def draw(
        self,
        examples: Sequence[Any],
        tokenizer: Tokenizer,
        limits: Mapping[str, Any],
        *,
        num_samples: int,
        seed: int,
    ) -> Sequence[TokenSequence]:
        """Draw sequences to calibrate on."""
        ...

    def golden_items(self, runtime: Runtime) -> tuple[dict[str, Any], ...]:
        """Make the manifest's self-test."""
        ...

    def evaluate(self, runtime: Runtime, examples: Sequence[Any], progress: Progress) -> Any:
        """Score a model on all examples."""
        ...

    def receipt(
        self, eval_file: Path, examples: Sequence[Any], reference: Any, int8: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Put evaluations, float's and INT8's by engine, into the manifest's receipt."""
        ...

    def check(self, receipt: Mapping[str, Any], plans: Mapping[str, LayerPlan]) -> None:
        """Raise ParityError where INT8 lost too much."""
        ...

    def changes(self, reference: Any, int8: Any, examples: Sequence[Any]) -> list[ChangedAnswer]:
        """List what INT8 says otherwise than float, the worst first."""
        ...


class QuestionAnswering:
    """Questions over passages, in files like SQuAD's."""

    labels: tuple[str, ...] = ()
    outputs = AnsweringTask.outputs

    def __init__(self, gate: Gate) -> None:
        """Take what INT8 must keep."""
        self._gate = gate
        self.bars: Mapping[str, float] = dataclasses.asdict(gate)

    def limits(self, limits: AnsweringConfig) -> AnsweringConfig:
        """Return the limits as they are."""
        return limits

    def read(self, path: Path, dropped: Dropped | None = None) -> list[SquadExample]:
        """Read a SQuAD file."""
        return read_squad(path, dropped=dropped)

    def check_disjoint(
        self, calibration: Sequence[SquadExample], evaluation: Sequence[SquadExample], *, field: str
    ) -> None:
        """Refuse a shared passage."""
        check_disjoint(calibration, evaluation, field=field)

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[SquadExample], progress: Progress
    ) -> FittedTemperature:
        """Make scores probabilities of an exact match."""
        return fit_span_temperature(runtime, examples, progress)

    def passage(self, example: SquadExample) -> Hashable:
        """Return the passage."""
        return example.context

    def judge(self, reference: Any, int8: Any) -> Verdict:
        """Compare F1."""
        return judge(
            "F1",
            (reference.f1, int8.f1),
            min_ratio=self._gate.min_f1_ratio,
            max_loss=self._gate.max_f1_loss,
        )

    def draw(
        self,
        examples: Sequence[SquadExample],
        tokenizer: Tokenizer,
        limits: Mapping[str, Any],
        *,
        num_samples: int,
        seed: int,
    ) -> Sequence[TokenSequence]:
        """Draw windows, at most one question a passage."""
        config = from_dict(AnsweringConfig, limits)
        return calibration_features(examples, tokenizer, config, num_samples=num_samples, seed=seed)

    def golden_items(self, runtime: Runtime) -> tuple[dict[str, Any], ...]:
        """Record clear answers."""
        return golden_items(runtime)

    def evaluate(
        self, runtime: Runtime, examples: Sequence[SquadExample], progress: Progress
    ) -> Any:
        """Measure exact match and F1."""
        return evaluate(runtime, examples, progress=progress, raw_scores=True)

    def receipt(
        self,
        eval_file: Path,
        examples: Sequence[SquadExample],
        reference: Any,
        int8: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write down exact match, F1 and their intervals."""
        return make_receipt(eval_file, examples, reference, int8)

    def check(self, receipt: Mapping[str, Any], plans: Mapping[str, LayerPlan]) -> None:
        """Hold F1 against the bars."""
        self._gate.check(receipt, plans)

    def changes(
        self, reference: Any, int8: Any, examples: Sequence[SquadExample]
    ) -> list[ChangedAnswer]:
        """List changed answers."""
        return changed_answers(reference, int8, examples)


class TextClassification:
    """Labelled texts, in TSV, CSV or JSON Lines."""

    outputs = ClassifyingTask.outputs

    def __init__(
        self,
        gate: AccuracyGate,
        labels: tuple[str, ...],
        columns: Columns,
        *,
        num_token_types: int = 2,
    ) -> None:
        """Take what INT8 must keep, the model's classes, and how files name their columns."""
        self._gate = gate
        self._num_token_types = num_token_types
        self._columns = columns
        self.labels = labels
        self.bars: Mapping[str, float] = dataclasses.asdict(gate)

    def limits(self, limits: AnsweringConfig) -> SequenceLimits:
        """Return how long a text may be."""
        return SequenceLimits(max_seq_length=limits.max_seq_length)

    def read(self, path: Path, dropped: Dropped | None = None) -> list[LabelledText]:
        """Read a file of labelled texts; every label must be one of the model's."""
        examples = read_labelled(path, self._columns, dropped=dropped)
        class_indices(examples, self.labels)
        return examples

    def check_disjoint(
        self, calibration: Sequence[LabelledText], evaluation: Sequence[LabelledText], *, field: str
    ) -> None:
        """Refuse a shared text."""
        check_disjoint_texts(calibration, evaluation, field=field)

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[LabelledText], progress: Progress
    ) -> FittedTemperature:
        """Make scores probabilities of the right class."""
        return fit_class_temperature(runtime, examples, progress)

    def passage(self, example: LabelledText) -> Hashable:
        """Return the text, or both."""
        return example.input

    def judge(self, reference: Any, int8: Any) -> Verdict:
        """Compare accuracy."""
        return judge(
            "accuracy",
            (reference.accuracy, int8.accuracy),
            min_ratio=self._gate.min_accuracy_ratio,
            max_loss=self._gate.max_accuracy_loss,
        )

    def draw(
        self,
        examples: Sequence[LabelledText],
        tokenizer: Tokenizer,
        limits: Mapping[str, Any],
        *,
        num_samples: int,
        seed: int,
    ) -> Sequence[TokenSequence]:
        """Draw texts."""
        return calibration_sequences(
            examples,
            tokenizer,
            from_dict(SequenceLimits, limits),
            num_samples=num_samples,
            seed=seed,
            num_token_types=self._num_token_types,
        )

    def golden_items(self, runtime: Runtime) -> tuple[dict[str, Any], ...]:
        """Record logits."""
        return classifier_golden_items(runtime)

    def evaluate(
        self, runtime: Runtime, examples: Sequence[LabelledText], progress: Progress
    ) -> Any:
        """Measure accuracy and macro F1."""
        return evaluate_classes(runtime, examples, progress=progress)

    def receipt(
        self,
        eval_file: Path,
        examples: Sequence[LabelledText],
        reference: Any,
        int8: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write down accuracy, its intervals and macro F1."""
        return make_class_receipt(eval_file, examples, reference, int8)

    def check(self, receipt: Mapping[str, Any], plans: Mapping[str, LayerPlan]) -> None:
        """Hold accuracy against the bars."""
        self._gate.check(receipt, plans)

    def changes(
        self, reference: Any, int8: Any, examples: Sequence[LabelledText]
    ) -> list[ChangedAnswer]:
        """List changed classes."""
        return changed_classes(reference, int8, examples, self.labels)


def make_task(
    loaded: LoadedModel, *, gate: Gate, accuracy_gate: AccuracyGate, columns: Columns
) -> CompileTask:
    """Make a model's task.

    Args:
        loaded: The model. Of a task that does not compile, compile.graph.trace tells.
        gate: What INT8 must keep of question answering.
        accuracy_gate: What it must keep of text classification.
        columns: How files of labelled texts name their columns.

    Returns:
        The task's part in the compile.

    Raises:
        UnsupportedOpError: A text classifier is of a kind that does not compile.
    """
    if loaded.task == "text-classification":
        num_types = loaded.config.num_token_types
        labels = checked_labels(loaded)
        return TextClassification(accuracy_gate, labels, columns, num_token_types=num_types)
    return QuestionAnswering(gate)


def default_limits(model_name_or_path: Path, task: str | None = None) -> AnsweringConfig:
    """Return the limits where the user sets none.

    Args:
        model_name_or_path: The checkpoint directory.
        task: What the user says that it does; None where config.json says it.

    Returns:
        The paper's for question answering; for text classification the same longest sequence.

    Raises:
        CheckpointError: The checkpoint's config.json cannot be read, or nobody names the task.
        ConfigError: config.json names another task.
    """
    limits = AnsweringConfig()
    is_classifier = task_of(read_config(model_name_or_path)[1], task) == "text-classification"
    return _without_windows(limits) if is_classifier else limits


def _without_windows(limits: AnsweringConfig) -> AnsweringConfig:
    # Texts are not cut into windows; the format wants the smallest values that are valid.
    return dataclasses.replace(limits, doc_stride=0, max_query_length=1)
