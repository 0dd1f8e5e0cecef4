"""Scores of sentences -> the sentences of a summary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_sentences"]


def choose_sentences(
    sentences: Sequence[str],
    logits: NDArray[np.float64],
    *,
    max_sentences: int,
    trigram_blocking: bool = True,
) -> list[int]:
    """Choose the best sentences.

    Args:
        sentences: All sentences of a document, S of them.
        logits: Shape (S,), their scores.
        max_sentences: Most sentences wanted, at least 1.
        trigram_blocking: Whether a sentence that has three words in a row in common with a better
            one that was chosen is passed over.

    Returns:
        Sentences in the document's order; of equal scores the first.

    Source: trigram blocking, Paulus et al. 2017, arXiv:1705.04304, section 2.5, as BertSum has it.
    """
    chosen: list[int] = []
    seen: set[tuple[str, ...]] = set()
    for index in np.argsort(-logits, kind="stable").tolist():
        if len(chosen) == max_sentences:
            break
        words = sentences[index].lower().split()
        trigrams = {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
        if trigram_blocking and seen & trigrams:
            continue
        seen |= trigrams
        chosen.append(index)
    return sorted(chosen)
