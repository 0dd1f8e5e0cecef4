"""Documents with their summaries -> how much each sentence is to be chosen.

Shapes: S sentences.

Words are those of the package rouge-score with its stemmer; the counts are made here, once for
each sentence, since choosing sentences one by one asks for thousands of sums of them.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["greedy_labels", "greedy_sentences", "sentence_rouge", "soft_labels"]

_Counts = list[Counter[tuple[str, ...]]]


def greedy_labels(
    sentences: Sequence[str], references: Sequence[str], max_sentences: int
) -> NDArray[np.float64]:
    """Return 1 for the sentences of greedy_sentences and 0 for the others, shape (S,)."""
    labels_S = np.zeros(len(sentences))
    labels_S[list(greedy_sentences(sentences, references, max_sentences))] = 1.0
    return labels_S


def soft_labels(
    sentences: Sequence[str], references: Sequence[str], max_sentences: int, *, temperature: float
) -> NDArray[np.float64]:
    """Share a summary's places out among all sentences: the more, the greater their ROUGE.

    Where two sentences say nearly the same, one of them is not wrong; so labels of 0 and 1 teach
    much that is chance.

    Args:
        sentences: The sentences of a document, S of them.
        references: Summaries of it, at least one.
        max_sentences: Places.
        temperature: Of the softmax over the sentences, in points of ROUGE.

    Returns:
        Shape (S,), float64, from 0 to 1; the sum is max_sentences or less.
    """
    rouge_S = sentence_rouge(sentences, references)
    shares_S = np.exp((rouge_S - rouge_S.max()) / temperature)
    result: NDArray[np.float64] = np.minimum(1.0, max_sentences * shares_S / shares_S.sum())
    return result


def sentence_rouge(sentences: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Compare every sentence alone with the reference that it is nearest to.

    Args:
        sentences: The sentences of a document, S of them.
        references: Summaries of it, at least one.

    Returns:
        The mean of ROUGE-1 and ROUGE-2, F1 in percent, shape (S,), float64.
    """
    wanted = [_count(reference) for reference in references]
    counts = [_count(sentence) for sentence in sentences]
    return np.array([max(_rouge(row, want) for want in wanted) / 2 for row in counts])


def greedy_sentences(
    sentences: Sequence[str], references: Sequence[str], max_sentences: int
) -> tuple[int, ...]:
    """Find the sentences that a model is to choose.

    Args:
        sentences: The sentences of a document.
        references: Summaries of it, at least one.
        max_sentences: Most sentences wanted.

    Returns:
        Sentences in the document's order: each adds most to the sum of ROUGE-1 and ROUGE-2 of
        those before it; none once no sentence adds anything. Of several references those for the
        one that they come nearest to.

    Source: BertSum, Liu and Lapata 2019, arXiv:1903.10318, section 4.1.
    """
    counts = [_count(sentence) for sentence in sentences]
    found = [_greedy(counts, _count(reference), max_sentences) for reference in references]
    return tuple(sorted(max(found, key=lambda item: item[0])[1]))


def _greedy(
    counts: Sequence[_Counts], want: _Counts, max_sentences: int
) -> tuple[float, list[int]]:
    chosen: list[int] = []
    score = 0.0
    total: _Counts = [Counter(), Counter()]
    while len(chosen) < min(max_sentences, len(counts)):
        tried = []
        for index, row in enumerate(counts):
            if index not in chosen:
                sums = [mine + its for mine, its in zip(total, row, strict=True)]
                tried.append((_rouge(sums, want), -index, sums))
        value, place, sums = max(tried, key=lambda item: item[:2])
        if value <= score:
            break
        score, total = value, sums
        chosen.append(-place)
    return score, chosen


def _rouge(got: _Counts, want: _Counts) -> float:
    """Return the sum of ROUGE-1 and ROUGE-2, F1 in percent."""
    return sum(
        200 * hits / (mine.total() + its.total())
        for mine, its in zip(got, want, strict=True)
        if (hits := (mine & its).total())
    )


def _count(text: str) -> _Counts:
    """Count the words and the pairs of words of a text."""
    words = _tokenize()(text)
    return [Counter(zip(words, strict=True)), Counter(pairwise(words))]


@functools.cache
def _tokenize() -> Callable[[str], list[str]]:
    from rouge_score.tokenizers import DefaultTokenizer

    tokenize: Callable[[str], list[str]] = DefaultTokenizer(use_stemmer=True).tokenize
    return tokenize
