"""How well and how fast a Runtime labels the words of a set of texts.

Shapes: Q texts, N words of all texts, C labels.
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
from bert_rt.support.strict_json import readable_json
from bert_rt.tasks.metrics import macro_f1, reliability
from bert_rt.tasks.token_classification.chunks import find_chunks, has_prefixes
from bert_rt.tasks.token_classification.labelled import LabelledWords, tag_indices
from bert_rt.tasks.token_classification.tagging import TokenClassification
from bert_rt.types import Tagging

if TYPE_CHECKING:
    from bert_rt.api import Runtime

__all__ = ["TagEvaluation", "chunk_counts", "evaluate_tags", "f1_of_counts"]

_TASK = TokenClassification()


@dataclass(frozen=True, slots=True, eq=False)
class TagEvaluation:
    """What a Runtime made of labelled words; Q texts in the examples' order, N words in all.

    Attributes:
        total: Number of texts, Q.
        words_per_second: From words to labels, tokenization included.
        predicted_N: Shape (N,), int64, the labels that were given.
        gold_N: Shape (N,), int64, the right ones.
        text_N: Shape (N,), int64, the text that a word is in.
        counts_Q3: Shape (Q, 3), int64: entities that were found rightly, found, and to be found.
        score_N: Shape (N,), float64, the scores of the labels that were given.
        raw_score_N: Shape (N,), float64, what they were with a score_temperature of 1.
        score_temperature: The artifact's.
        labels: Names of the labels.
    """

    total: int
    words_per_second: float
    predicted_N: NDArray[np.int64]
    gold_N: NDArray[np.int64]
    text_N: NDArray[np.int64]
    counts_Q3: NDArray[np.int64]
    score_N: NDArray[np.float64]
    raw_score_N: NDArray[np.float64]
    score_temperature: float
    labels: tuple[str, ...]

    @property
    def correct_N(self) -> NDArray[np.float64]:
        """Shape (N,), each 0 or 1: whether a word got its right label."""
        correct_N: NDArray[np.float64] = np.equal(self.predicted_N, self.gold_N).astype(np.float64)
        return correct_N

    @property
    def accuracy(self) -> float:
        """Share of the words with their right label, in percent."""
        return float(100 * self.correct_N.mean())

    @property
    def entity_f1(self) -> float:
        """F1 of the entities, in percent."""
        return float(f1_of_counts(self.counts_Q3.sum(axis=0)))

    @property
    def metrics(self) -> dict[str, float]:
        """F1 of the entities, where labels say what one is, and the accuracy of words."""
        if has_prefixes(self.labels):
            return {"entity_f1": self.entity_f1, "word_accuracy": self.accuracy}
        return {
            "word_accuracy": self.accuracy,
            "macro_f1": macro_f1(self.predicted_N, self.gold_N),
        }

    @property
    def predictions(self) -> dict[str, str]:
        """The labels that were given, as a JSON list, by line from 0."""
        rows = np.split(self.predicted_N, np.flatnonzero(np.diff(self.text_N)) + 1)
        return {
            str(row): readable_json([self.labels[index] for index in given.tolist()])
            for row, given in enumerate(rows)
        }

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the scores."""
        return reliability(self.score_N, self.correct_N).expected_calibration_error

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        return {
            **self.metrics,
            **({"by_entity": self._by_entity()} if has_prefixes(self.labels) else {}),
            "total": self.total,
            "num_words": len(self.gold_N),
            "expected_calibration_error": self.calibration_error,
            "words_per_second": self.words_per_second,
        }

    def describe(self) -> str:
        """Return the figures as lines of text."""
        names = {
            "entity_f1": "entity F1",
            "word_accuracy": "accuracy of words",
            "macro_f1": "macro F1",
        }
        figures = ", ".join(f"{names[name]} {value:.2f}" for name, value in self.metrics.items())
        return (
            f"{figures} over {len(self.gold_N)} words of {self.total} texts\n"
            f"expected calibration error of the scores {self.calibration_error:.4f}\n"
            f"{self.words_per_second:.1f} words/s, text to labels,"
        )

    def _by_entity(self) -> dict[str, float]:
        """Return F1 by kind of entity, in percent."""
        bounds = np.flatnonzero(np.diff(self.text_N)) + 1
        counts: dict[str, NDArray[np.int64]] = {}
        for given, gold in zip(
            np.split(self.predicted_N, bounds), np.split(self.gold_N, bounds), strict=True
        ):
            found, wanted = _chunks(given, self.labels), _chunks(gold, self.labels)
            for place, chunks in enumerate((found & wanted, found, wanted)):
                for kind, _, _ in chunks:
                    counts.setdefault(kind, np.zeros(3, np.int64))[place] += 1
        return {kind: float(f1_of_counts(counts[kind])) for kind in sorted(counts)}


def evaluate_tags(
    runtime: Runtime, examples: Sequence[LabelledWords], *, progress: Progress | None = None
) -> TagEvaluation:
    """Label all words and count the right labels and entities.

    Args:
        runtime: What labels.
        examples: At least one text.
        progress: Advanced at every text.

    Returns:
        Scores, labels and speed.

    Raises:
        InputError: There are no examples, a text cannot be computed, or a label is none of the
            artifact's.
        EngineError: The engine failed.
    """
    if not examples:
        raise InputError("examples: got 0 texts, want at least 1")
    labels = runtime.manifest.labels
    gold = tag_indices(examples, labels)
    results: list[Tagging] = []
    start_s = time.perf_counter()
    inputs = (example.words for example in examples)
    for result in runtime.session.stream(_TASK, inputs, runtime.options(_TASK)):
        results.append(result)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    given = [[word.index for word in result.words] for result in results]
    words = [word for result in results for word in result.words]
    logits_NC = np.array([word.logits for word in words])
    return TagEvaluation(
        total=len(examples),
        words_per_second=len(words) / seconds,
        predicted_N=np.array([word.index for word in words], np.int64),
        gold_N=np.array([index for row in gold for index in row], np.int64),
        text_N=np.repeat(np.arange(len(gold)), [len(row) for row in gold]),
        counts_Q3=np.array(
            [chunk_counts(mine, right, labels) for mine, right in zip(given, gold, strict=True)]
        ),
        score_N=np.array([word.score for word in words]),
        raw_score_N=1 / np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True)).sum(axis=1),
        score_temperature=runtime.manifest.score_temperature,
        labels=labels,
    )


def chunk_counts(
    given: Sequence[int], gold: Sequence[int], labels: Sequence[str]
) -> tuple[int, int, int]:
    """Count the entities of a text.

    Args:
        given: The index of every word's label as it was given.
        gold: As it should be.
        labels: Names of the labels.

    Returns:
        Entities found rightly (all their words, and the kind), found, and to be found.
    """
    found, wanted = _chunks(given, labels), _chunks(gold, labels)
    return len(found & wanted), len(found), len(wanted)


def f1_of_counts(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return F1 in percent.

    Args:
        counts: Shape (..., 3), as chunk_counts gives them, summed over any texts.

    Returns:
        Shape (...): 2 x right / (found + to be found); 100 where nothing was to be found and
        nothing was.
    """
    total = counts[..., 1] + counts[..., 2]
    share: NDArray[np.float64] = 2 * counts[..., 0] / np.maximum(total, 1)
    return np.asarray(100 * np.where(total > 0, share, 1.0))


def _chunks(indices: Any, labels: Sequence[str]) -> set[tuple[str, int, int]]:
    return set(find_chunks([labels[index] for index in indices]))
