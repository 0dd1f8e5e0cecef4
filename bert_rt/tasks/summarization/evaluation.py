"""How well and how fast a Runtime sums up a set of documents.

Shapes: Q documents.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputError
from bert_rt.support.progress import Progress
from bert_rt.tasks.summarization.documents import SummarizedText
from bert_rt.tasks.summarization.lead import LeadComparison, compare_with_lead
from bert_rt.tasks.summarization.rouge import ROUGE, best_rouge, rouge_convention
from bert_rt.tasks.summarization.summarizing import Summarization
from bert_rt.types import Summary

if TYPE_CHECKING:
    from bert_rt.api import Runtime

__all__ = ["SummaryEvaluation", "evaluate_summaries"]

_TASK = Summarization()


@dataclass(frozen=True, eq=False)
class SummaryEvaluation:
    """What a Runtime made of documents; Q of them in the examples' order.

    Attributes:
        examples: The documents.
        summaries: What it chose.
        rouge_Q3: Shape (Q, 3), float64, F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in percent.
        texts_per_second: From documents to summaries, tokenization included.
        max_sentences: Sentences of a summary.
    """

    examples: Sequence[SummarizedText]
    summaries: tuple[Summary, ...]
    rouge_Q3: NDArray[np.float64]
    texts_per_second: float
    max_sentences: int

    @cached_property
    def against_lead(self) -> LeadComparison:
        """The first sentences' scores beside these, with intervals; computed when asked for."""
        return compare_with_lead(self.examples, self.rouge_Q3, self.max_sentences)

    @property
    def metrics(self) -> dict[str, float]:
        """The mean of each ROUGE, the one first on which gates look."""
        return dict(zip(ROUGE, self.rouge_Q3.mean(axis=0).tolist(), strict=True))

    @property
    def total(self) -> int:
        """Number of documents, Q."""
        return len(self.summaries)

    @property
    def predictions(self) -> dict[str, str]:
        """The summaries by line from 0."""
        return {str(row): summary.text for row, summary in enumerate(self.summaries)}

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        other = self.against_lead
        return {
            **self.metrics,
            **{f"{name}_interval": ends for name, ends in zip(ROUGE, other.interval, strict=True)},
            **{f"lead_{name}": value for name, value in zip(ROUGE, other.lead, strict=True)},
            **{
                f"{name}_gain_interval": ends
                for name, ends in zip(ROUGE, other.gain_interval, strict=True)
            },
            "rouge_convention": rouge_convention(),
            "total": self.total,
            "texts_per_second": self.texts_per_second,
        }

    def describe(self) -> str:
        """Return the figures as lines of text."""
        other = self.against_lead
        gains = self.rouge_Q3.mean(axis=0) - other.lead
        count = other.num_sentences
        first = "first sentence" if count == 1 else f"first {count} sentences"
        return (
            f"ROUGE-1 / 2 / L {_figures(self.metrics.values())} over {self.total} texts "
            f"({rouge_convention()}); 95 % intervals {_ranges(other.interval)}\n"
            f"the {first} alone: {_figures(other.lead)}; above that by {_figures(gains)}, "
            f"95 % intervals {_ranges(other.gain_interval)}\n"
            f"{self.texts_per_second:.1f} texts/s, text to summary,"
        )


def evaluate_summaries(
    runtime: Runtime, examples: Sequence[SummarizedText], *, progress: Progress | None = None
) -> SummaryEvaluation:
    """Sum up all documents and compare with their summaries.

    Args:
        runtime: What sums up; its limits say by how many sentences.
        examples: At least one document.
        progress: Advanced at every document.

    Returns:
        Scores, summaries and speed.

    Raises:
        InputError: There are no examples, or a document cannot be computed.
        EngineError: The engine failed.
    """
    if not examples:
        raise InputError("examples: got 0 texts, want at least 1")
    summaries: list[Summary] = []
    start_s = time.perf_counter()
    inputs = (example.text for example in examples)
    for summary in runtime.session.stream(_TASK, inputs, runtime.options(_TASK)):
        summaries.append(summary)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    scores = [
        best_rouge(summary.text, example.references)
        for summary, example in zip(summaries, examples, strict=True)
    ]
    return SummaryEvaluation(
        examples,
        tuple(summaries),
        np.array(scores),
        len(examples) / seconds,
        runtime.options(_TASK).limits.max_sentences,
    )


def _figures(values: Iterable[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def _ranges(intervals: Iterable[tuple[float, float]]) -> str:
    return " / ".join(f"{low:.2f} to {high:.2f}" for low, high in intervals)
