"""Compiling models that answer questions over passages, with files like SQuAD's.

Shapes: Q questions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import Manifest, ManifestFields
from bert_rt.errors import CalibrationError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.model.config import BertConfig, from_dict
from bert_rt.support.progress import Progress, progress
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.answering import QuestionAnswering as AnsweringTask
from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation, evaluate, stream_logits
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.metrics import evaluate_squad
from bert_rt.tasks.question_answering.no_answer import Threshold, always_answering, best_threshold
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Feature
from compile.graph.head import GraphHead
from compile.judge.gate import Measure
from compile.judge.noninferiority import cluster_ids, resampled_means
from compile.judge.temperature import (
    Confidence,
    FittedTemperature,
    fit_temperature,
    mean_log_loss,
)
from compile.report.changes import Change, worst_first
from compile.tasks.base import CompileTask, Settings, TunedLimits

__all__ = [
    "QuestionAnswering",
    "calibration_features",
    "check_both_kinds",
    "equal_answers",
    "tune_threshold",
]

_ANSWERING = AnsweringTask()

_CONTEXTS = (
    "The first transatlantic telegraph cable was completed in August 1858. It ran from Valentia "
    "Island in Ireland to Trinity Bay in Newfoundland, and it failed after three weeks because "
    "too high a voltage had been applied to it.",
    "Honey bees tell their nest mates where food is by dancing. Karl von Frisch, who decoded the "
    "waggle dance, received the Nobel Prize in Physiology or Medicine in 1973.",
    "Lake Baikal in southern Siberia is the deepest lake on Earth, at 1,642 metres. It holds about "
    "a fifth of the world's unfrozen fresh water and is some 25 million years old.",
    "Ada Lovelace published the first algorithm intended for a machine in 1843, as a note to her "
    "translation of an article on Charles Babbage's Analytical Engine.",
)
_QUESTIONS = (
    ("When was the first transatlantic telegraph cable completed?", 0),
    ("Why did the cable fail?", 0),
    ("Who decoded the waggle dance?", 1),
    ("How deep is Lake Baikal?", 2),
    ("Where is Lake Baikal?", 2),
    ("Who designed the Analytical Engine?", 3),
    ("When did Ada Lovelace publish the first algorithm?", 3),
)


class QuestionAnswering(CompileTask):
    """Questions over passages, judged by F1."""

    task = _ANSWERING
    golden_inputs: ClassVar[Sequence[Any]] = [(text, _CONTEXTS[at]) for text, at in _QUESTIONS]
    # In logits: well above what engines of one artifact differ by.
    golden_lead = 1.5
    measure = Measure(
        metrics={"f1": "F1", "exact_match": "exact match"},
        comparisons={"equal_answers": "answers equal"},
        examples="questions",
        clusters="passages",
        min_ratio=0.99,
        max_loss=0.5,
        # Measured between instruction sets on the reference model.
        tolerance=0.1,
        changes=("question", "float's answer", "F1", "INT8's answer", "F1"),
    )
    limits: AnsweringConfig

    def __init__(self, settings: Settings, *, is_split: bool = False) -> None:
        """Take what the user sets; arguments and errors as in CompileTask.

        Args:
            settings: As in CompileTask.
            is_split: Whether the model has split layers.
        """
        super().__init__(settings)
        self._is_split = is_split
        # Where the user sets a threshold, none is searched for.
        self._is_set = "null_score_diff_threshold" in settings.limits

    @classmethod
    def measures(cls) -> Sequence[Measure]:
        """Return the only one."""
        return [cls.measure]

    @classmethod
    def for_model(cls, loaded: LoadedModel, settings: Settings) -> QuestionAnswering:
        """Make the part of a checkpoint."""
        return cls(settings, is_split=loaded.config.num_split_layers > 0)

    @classmethod
    def for_manifest(cls, manifest: Manifest, settings: Settings) -> QuestionAnswering:
        """Make the part of an artifact."""
        return cls(settings, is_split=manifest.architecture.num_split_layers > 0)

    def graph_head(self, config: BertConfig) -> GraphHead:
        """Return the one linear layer over all tokens."""
        del config
        return GraphHead(("qa_outputs",))

    def passage(self, example: SquadExample) -> Hashable:
        """Return the passage."""
        return example.context

    def describe_shared(self, mine: SquadExample, other: SquadExample) -> str:
        """Say how the passage begins."""
        del other
        return f"begins {mine.context[:60]!r}"

    def draw(
        self, examples: Sequence[SquadExample], tokenizer: Tokenizer, *, num_samples: int, seed: int
    ) -> Sequence[Feature]:
        """Draw windows, at most one question a passage."""
        return calibration_features(
            examples,
            tokenizer,
            self.limits,
            num_samples=num_samples,
            seed=seed,
            is_split=self._is_split,
        )

    @property
    def tunes_limits(self) -> bool:
        """Whether the threshold of "no answer" is to be found."""
        return self.limits.version_2_with_negative and not self._is_set

    def check_held_out(self, examples: Sequence[SquadExample]) -> None:
        """Refuse questions that cannot tell when to say "no answer"."""
        check_both_kinds(examples)

    def tune_limits(
        self, files: Mapping[str, bytes], fields: ManifestFields, examples: Sequence[SquadExample]
    ) -> TunedLimits | None:
        """Find the threshold of "no answer"."""
        if not self.tunes_limits or not examples:
            return None
        threshold = tune_threshold(files, fields, examples)
        limits = replace(self.limits, null_score_diff_threshold=threshold.value)
        provenance = {**asdict(threshold), "held_out": len(examples)}
        return TunedLimits("threshold", limits, provenance)

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[SquadExample], progress: Progress
    ) -> FittedTemperature:
        """Make the best answer's score the probability that it is exactly right."""
        options = runtime.options()
        kept, predictions = [], {}
        logits = stream_logits(runtime, examples)
        for example, item in zip(examples, logits, strict=True):
            kept.append(item)
            predictions[example.id] = _ANSWERING.decode(*item, options).text
            progress.advance()
        is_v2 = runtime.limits.version_2_with_negative
        correct_Q = evaluate_squad(
            predictions, examples, version_2_with_negative=is_v2
        ).exact_matches.astype(bool)

        def log_loss(temperature: float) -> float:
            at = replace(options, score_temperature=temperature)
            score_Q = np.array([_ANSWERING.decode(*item, at).score for item in kept])
            return mean_log_loss(np.where(correct_Q, score_Q, 1 - score_Q))

        return fit_temperature(log_loss, correct_Q, len(examples))

    def evaluate(
        self, runtime: Runtime, examples: Sequence[SquadExample], *, progress: Progress
    ) -> AnswerEvaluation:
        """Measure exact match and F1, and scores with a temperature of 1, too."""
        return evaluate(runtime, examples, progress=progress, raw_scores=True)

    def clusters(self, examples: Sequence[SquadExample]) -> NDArray[np.intp]:
        """Number the passages."""
        return cluster_ids(example.context for example in examples)

    def resample(
        self, evaluations: Sequence[AnswerEvaluation], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Average F1."""
        return resampled_means(np.stack([100 * e.f1_N for e in evaluations], axis=1), cluster_Q)

    def compare(
        self,
        reference: AnswerEvaluation,
        int8: AnswerEvaluation,
        examples: Sequence[SquadExample],
    ) -> Mapping[str, float | NDArray[np.float64]]:
        """Tell how many answers have float's very text."""
        return {"equal_answers": equal_answers(reference, int8, examples)}

    def confidence(self, evaluation: AnswerEvaluation) -> Confidence:
        """Return the answers' scores, right where they match exactly."""
        return Confidence(
            evaluation.score_temperature,
            evaluation.raw_score_N,
            evaluation.score_N,
            evaluation.exact_N,
        )

    def changes(
        self,
        reference: AnswerEvaluation,
        int8: AnswerEvaluation,
        examples: Sequence[SquadExample],
    ) -> list[Change]:
        """List the questions whose answers differ."""
        differ = np.flatnonzero(equal_answers(reference, int8, examples) == 0).tolist()
        return worst_first(
            Change(
                examples[index].question,
                reference.predictions[examples[index].id],
                int8.predictions[examples[index].id],
                float(reference.f1_N[index]),
                float(int8.f1_N[index]),
            )
            for index in differ
        )


def equal_answers(
    reference: AnswerEvaluation, int8: AnswerEvaluation, examples: Sequence[SquadExample]
) -> NDArray[np.float64]:
    """Tell for every question whether both gave the same text.

    Args:
        reference: The float model's evaluation.
        int8: INT8's, of the same questions.
        examples: The questions.

    Returns:
        Shape (Q,), float64, each 0 or 1.
    """
    texts, others = reference.predictions, int8.predictions
    return np.array([texts[example.id] == others[example.id] for example in examples], np.float64)


def calibration_features(
    examples: Sequence[SquadExample],
    tokenizer: Tokenizer,
    config: AnsweringConfig,
    *,
    num_samples: int,
    seed: int,
    is_split: bool = False,
) -> list[Feature]:
    """Draw windows to calibrate on, at most one question a passage.

    Args:
        examples: Questions over passages, of training data.
        tokenizer: The model's.
        config: How passages are cut into windows.
        num_samples: Windows wanted; fewer where there are fewer passages.
        seed: Of the draw.
        is_split: As in make_features.

    Returns:
        The windows, in random order.

    Raises:
        CalibrationError: There is nothing to draw from.
    """
    random = np.random.default_rng(seed)
    by_context: dict[str, list[SquadExample]] = {}
    for example in examples:
        by_context.setdefault(example.context, []).append(example)
    groups = list(by_context.values())
    if not groups:
        raise CalibrationError("calibration_file: has no question")
    drawn = [groups[index] for index in random.permutation(len(groups))[:num_samples]]
    chosen = [group[random.integers(len(group))] for group in drawn]
    questions = tokenizer.encode_batch([example.question for example in chosen])
    contexts = tokenizer.encode_batch([example.context for example in chosen])
    features: list[Feature] = []
    for question, context in zip(questions, contexts, strict=True):
        windows = make_features(
            len(features),
            question,
            context,
            config=config,
            is_split=is_split,
            **tokenizer.pair_tokens,
        )
        features.append(windows[random.integers(len(windows))])
    return features


def check_both_kinds(examples: Sequence[SquadExample]) -> None:
    """Refuse questions that cannot tell when to say "no answer".

    Args:
        examples: Those of the calibration file that were set aside.

    Raises:
        CalibrationError: They do not hold both kinds, questions with and without an answer.
    """
    num_impossible = sum(example.is_impossible for example in examples)
    if not 0 < num_impossible < len(examples):
        raise CalibrationError(
            f"calibration_file: got {num_impossible} questions without an answer among the "
            f"{len(examples)} that were set aside to find null_score_diff_threshold, want both "
            "kinds; python -m train.unanswerable makes such a file of SQuAD v1.1, and "
            "--null_score_diff_threshold sets the threshold by hand"
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
    limits = from_dict(AnsweringConfig, fields["limits"])
    artifact = build_artifact(files=files, **fields)
    predictions, margins = {}, []
    with (
        Runtime.open(artifact, engine="onnxruntime", config=always_answering(limits)) as runtime,
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
