"""Compiling models that label words: named entities, judged by F1, or other labels, by accuracy.

Shapes: Q texts, N words of all texts, C labels, E evaluations, R draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import CalibrationError, UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel, label_names
from bert_rt.model.config import BertConfig
from bert_rt.support.progress import Progress
from bert_rt.tasks.limits import WindowLimits
from bert_rt.tasks.token_classification.chunks import find_chunks, has_prefixes
from bert_rt.tasks.token_classification.evaluation import TagEvaluation, f1_of_counts
from bert_rt.tasks.token_classification.labelled import LabelledWords, tag_indices
from bert_rt.tasks.token_classification.tagging import TokenClassification as TaggingTask
from bert_rt.tasks.token_classification.tagging import prepare_words
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.graph.head import GraphHead
from compile.judge.gate import Measure
from compile.judge.noninferiority import resampled_means, resampled_sums
from compile.judge.temperature import (
    Confidence,
    FittedTemperature,
    fit_temperature,
    mean_log_loss,
)
from compile.report.changes import Change, worst_first
from compile.tasks.base import CompileTask, Settings

__all__ = ["Entities", "TokenClassification", "WordLabels"]

_CHANGES = ("text", "float's labels", "right, %", "INT8's labels", "right, %")


class TokenClassification(CompileTask):
    """What both kinds of labels share: files of words and labels in JSON Lines."""

    task = TaggingTask()
    golden_inputs: ClassVar[Sequence[Any]] = (
        "Angela Merkel met Barack Obama in Berlin.",
        "The ship left Oslo on Tuesday, and reached Hull two days later.",
        "Nobody knows why Siemens sold the plant near Lyon to a firm from Osaka.",
        "It rained.",
    )
    limits: WindowLimits

    @classmethod
    def measures(cls) -> Sequence[Measure]:
        """Return those of both kinds."""
        return [Entities.measure, WordLabels.measure]

    @classmethod
    def for_model(cls, loaded: LoadedModel, settings: Settings) -> TokenClassification:
        """Make the part of a checkpoint, by its labels."""
        labels = label_names(loaded.raw_config)
        if len(set(labels)) < len(labels):
            raise UnsupportedOpError(
                f"{cls.task.name}: got the labels {list(labels)}, want all different"
            )
        return _kind(labels)(settings, labels=labels)

    @classmethod
    def for_manifest(cls, manifest: Manifest, settings: Settings) -> TokenClassification:
        """Make the part of an artifact, by its labels."""
        return _kind(manifest.labels)(settings, labels=manifest.labels)

    def graph_head(self, config: BertConfig) -> GraphHead:
        """Return the one linear layer over all tokens."""
        del config
        return GraphHead(("classifier",))

    def passage(self, example: LabelledWords) -> Hashable:
        """Return the words."""
        return example.words

    def describe_shared(self, mine: LabelledWords, other: LabelledWords) -> str:
        """Say in which lines the words stand."""
        return f"stands in {mine.place}, and in {other.place}"

    def draw(
        self,
        examples: Sequence[LabelledWords],
        tokenizer: Tokenizer,
        *,
        num_samples: int,
        seed: int,
    ) -> Sequence[TokenSequence]:
        """Draw texts, and of each a window; raises EmptyInputError for a word without a token."""
        if not examples:
            raise CalibrationError("calibration_file: has no text")
        random = np.random.default_rng(seed)
        drawn: list[TokenSequence] = []
        for index in random.permutation(len(examples))[:num_samples]:
            example = examples[index]
            item = self.task.check_input(example.words, example.place)
            encoding = tokenizer.encode(item.text)
            windows = prepare_words(item, encoding, tokenizer, self.limits).windows
            drawn.append(windows[int(random.integers(len(windows)))])
        return drawn

    def fit_temperature(
        self, runtime: Runtime, examples: Sequence[LabelledWords], progress: Progress
    ) -> FittedTemperature:
        """Make the right labels likeliest."""
        rows = []
        for result in runtime.ask_stream(example.words for example in examples):
            rows += [word.logits for word in result.words]
            progress.advance()
        logits_NC = np.array(rows)
        logits_NC -= logits_NC.max(axis=1, keepdims=True)
        gold_N = np.concatenate(tag_indices(examples, self.labels))

        def log_loss(temperature: float) -> float:
            weights_NC = np.exp(logits_NC / temperature)
            gold_weight_N = weights_NC[np.arange(len(gold_N)), gold_N]
            return mean_log_loss(gold_weight_N / weights_NC.sum(axis=1))

        return fit_temperature(log_loss, logits_NC.argmax(axis=1) == gold_N, len(examples))

    def compare(
        self, reference: TagEvaluation, int8: TagEvaluation, examples: Sequence[LabelledWords]
    ) -> Mapping[str, float | NDArray[np.float64]]:
        """Tell the share of words that get float's label."""
        del examples
        return {"equal_labels": float(np.mean(int8.predicted_N == reference.predicted_N))}

    def confidence(self, evaluation: TagEvaluation) -> Confidence:
        """Return the scores of the given labels."""
        return Confidence(
            evaluation.score_temperature,
            evaluation.raw_score_N,
            evaluation.score_N,
            evaluation.correct_N,
        )

    def changes(
        self, reference: TagEvaluation, int8: TagEvaluation, examples: Sequence[LabelledWords]
    ) -> list[Change]:
        """List the texts in which a label differs."""
        bounds = np.flatnonzero(np.diff(reference.text_N)) + 1
        columns = (
            reference.predicted_N,
            int8.predicted_N,
            reference.correct_N,
            int8.correct_N,
        )
        rows = zip(*(np.split(column, bounds) for column in columns), strict=True)
        return worst_first(
            Change(
                " ".join(example.words),
                self._shown(example.words, mine),
                self._shown(example.words, his),
                float(right.mean()),
                float(his_right.mean()),
            )
            for example, (mine, his, right, his_right) in zip(examples, rows, strict=True)
            if (mine != his).any()
        )

    def _shown(self, words: Sequence[str], indices: NDArray[np.int64]) -> str:
        """Write what was found: entities, or every word's label."""
        labels = [self.labels[index] for index in indices.tolist()]
        if not has_prefixes(self.labels):
            return " ".join(labels)
        chunks = find_chunks(labels)
        return "; ".join(f"{kind}: {' '.join(words[first:end])}" for kind, first, end in chunks)


class Entities(TokenClassification):
    """Labels that say where entities begin (B-PER, I-PER, O), judged by the entities' F1."""

    measure = Measure(
        metrics={"entity_f1": "entity F1", "word_accuracy": "accuracy of words"},
        comparisons={"equal_labels": "equal labels"},
        examples="texts",
        clusters="texts",
        min_ratio=0.99,
        max_loss=1.0,
        tolerance=0.3,
        changes=_CHANGES,
    )

    def resample(
        self, evaluations: Sequence[TagEvaluation], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Count entities over all texts of a draw."""
        counts_QE3 = np.stack([result.counts_Q3 for result in evaluations], axis=1)
        flat = counts_QE3.reshape(len(counts_QE3), -1).astype(np.float64)
        sums = resampled_sums(flat, cluster_Q)
        return f1_of_counts(sums.reshape(len(sums), -1, 3))


class WordLabels(TokenClassification):
    """Labels that stand by themselves (parts of speech), judged by the accuracy of words."""

    measure = Measure(
        metrics={"word_accuracy": "accuracy of words", "macro_f1": "macro F1"},
        comparisons={"equal_labels": "equal labels"},
        examples="texts",
        clusters="texts",
        min_ratio=0.99,
        max_loss=0.5,
        tolerance=0.3,
        changes=_CHANGES,
    )

    def resample(
        self, evaluations: Sequence[TagEvaluation], cluster_Q: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Average over the words of a draw what is right; a text's words are drawn together."""
        text_N = evaluations[0].text_N
        correct_NE = np.stack([100 * result.correct_N for result in evaluations], axis=1)
        return resampled_means(correct_NE, cluster_Q[text_N])


def _kind(labels: Sequence[str]) -> type[TokenClassification]:
    return Entities if has_prefixes(labels) else WordLabels
