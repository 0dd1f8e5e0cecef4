"""ROUGE as the package rouge-score computes it, with its stemmer.

The package is imported when something is scored: an application that only sums documents up does
not need it.

Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries; of several references the
one of the highest ROUGE-1, as in Cachola et al. 2020 (SciTLDR), arXiv:2004.15011.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

__all__ = ["ROUGE", "best_rouge", "rouge_convention"]

ROUGE = ("rouge1", "rouge2", "rougeL")


def best_rouge(summary: str, references: Sequence[str]) -> tuple[float, float, float]:
    """Compare a summary with the reference of the highest ROUGE-1; of equal ones the first.

    Args:
        summary: The summary.
        references: What it should say, at least one text.

    Returns:
        F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in percent.
    """
    scores = (_scorer().score(reference, summary) for reference in references)
    best = max(scores, key=lambda score: score["rouge1"].fmeasure)
    one, two, longest = (100 * float(best[name].fmeasure) for name in ROUGE)
    return one, two, longest


def rouge_convention() -> str:
    """Return how ROUGE is computed, since figures of other conventions cannot be compared."""
    version = importlib.metadata.version("rouge-score")
    return (
        f"F1; rouge-score {version}, stemmer, of several references the one with the highest "
        "ROUGE-1"
    )


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(ROUGE, use_stemmer=True)
