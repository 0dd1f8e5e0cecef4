"""How much better than the first sentences of a text: the baseline that every summarizer must beat.

Shapes: Q documents, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_rt.tasks.summarization.documents import SummarizedText
from bert_rt.tasks.summarization.rouge import best_rouge
from bert_rt.text.sentences import sentence_spans

__all__ = ["LeadComparison", "compare_with_lead", "lead"]

_NUM_RESAMPLES = 2000
_BOUNDS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class LeadComparison:
    """ROUGE-1, ROUGE-2 and ROUGE-L of summaries beside those of the first sentences, in percent.

    Attributes:
        num_sentences: How many first sentences.
        lead: Means of the first sentences.
        interval: Low and high ends of the 95 % interval of the summaries' means.
        gain_interval: The same of how much they are above the first sentences', text by text.
    """

    num_sentences: int
    lead: tuple[float, ...]
    interval: tuple[tuple[float, float], ...]
    gain_interval: tuple[tuple[float, float], ...]


def lead(text: str, num_sentences: int) -> str:
    """Return the first sentences of a text with single spaces between them."""
    return " ".join(text[start:end] for start, end in sentence_spans(text)[:num_sentences])


def compare_with_lead(
    examples: Sequence[SummarizedText], rouge_Q3: NDArray[np.float64], num_sentences: int
) -> LeadComparison:
    """Score the first sentences of all documents, and resample the documents (bootstrap).

    Args:
        examples: Documents, Q of them.
        rouge_Q3: ROUGE of their summaries, in percent, shape (Q, 3).
        num_sentences: Sentences of a summary.

    Returns:
        Means and intervals; the same arguments always give the same.
    """
    leads = [best_rouge(lead(row.text, num_sentences), row.references) for row in examples]
    lead_Q3 = np.array(leads)
    count = len(examples)
    random = np.random.default_rng(0)
    counts_RQ = random.multinomial(count, np.full(count, 1 / count), size=_NUM_RESAMPLES)
    return LeadComparison(
        num_sentences,
        tuple(lead_Q3.mean(axis=0).tolist()),
        _intervals(counts_RQ, rouge_Q3),
        _intervals(counts_RQ, rouge_Q3 - lead_Q3),
    )


def _intervals(
    counts_RQ: NDArray[np.int64], values_Q3: NDArray[np.float64]
) -> tuple[tuple[float, float], ...]:
    """Return low and high end of the mean of each column."""
    means_R3 = counts_RQ @ values_Q3 / len(values_Q3)
    low_3, high_3 = np.percentile(means_R3, _BOUNDS, axis=0).tolist()
    return tuple(zip(low_3, high_3, strict=True))
