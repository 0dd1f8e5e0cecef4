"""ROUGE: how much of a reference a summary has, in words, pairs of words, and their order.

Words are runs of letters a to z and digits in lower case, as the package rouge-score finds them
without its stemmer.

Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["best_rouge", "greedy_sentences", "ngrams", "rouge", "rouge_words"]

_WORD = re.compile(r"[a-z0-9]+")


def rouge_words(text: str) -> list[str]:
    """Return the words that ROUGE counts."""
    return _WORD.findall(text.lower())


def ngrams(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    """Count the runs of some words."""
    return Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))


def rouge(summary: str, reference: str) -> tuple[float, float, float]:
    """Compare a summary with a reference.

    Args:
        summary: The summary.
        reference: What it should say.

    Returns:
        F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in percent.
    """
    got, want = rouge_words(summary), rouge_words(reference)
    overlaps = [((ngrams(got, n) & ngrams(want, n)).total(), n - 1) for n in (1, 2)]
    overlaps.append((_longest_common(got, want), 0))
    one, two, longest = (_f1(hits, len(got) - m, len(want) - m) for hits, m in overlaps)
    return one, two, longest


def best_rouge(summary: str, references: Sequence[str]) -> tuple[float, float, float]:
    """Compare a summary with the reference of the highest ROUGE-1, as SciTLDR's script does."""
    return max((rouge(summary, reference) for reference in references), key=lambda r: r[0])


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
    found = [_greedy(sentences, reference, max_sentences) for reference in references]
    return tuple(sorted(max(found, key=lambda item: item[0])[1]))


def _greedy(
    sentences: Sequence[str], reference: str, max_sentences: int
) -> tuple[float, list[int]]:
    want = rouge_words(reference)
    wanted = [ngrams(want, n) for n in (1, 2)]
    words = [rouge_words(sentence) for sentence in sentences]
    counts = [[ngrams(row, n) for n in (1, 2)] for row in words]
    chosen: list[int] = []
    score = 0.0
    total: list[Counter[tuple[str, ...]]] = [Counter(), Counter()]
    while len(chosen) < max_sentences:
        tried = []
        for index in range(len(sentences)):
            if index not in chosen:
                sums = [total[n] + counts[index][n] for n in (0, 1)]
                value = sum(
                    _f1((s & w).total(), s.total(), w.total())
                    for s, w in zip(sums, wanted, strict=True)
                )
                tried.append((value, -index, sums))
        if not tried:
            break
        value, place, sums = max(tried, key=lambda item: item[:2])
        if value <= score:
            break
        score, total = value, sums
        chosen.append(-place)
    return score, chosen


def _f1(hits: int, got: int, want: int) -> float:
    return 200 * hits / (got + want) if hits else 0.0


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for index, other in enumerate(b, start=1):
            here = row[index]
            row[index] = before + 1 if word == other else max(here, row[index - 1])
            before = here
    return row[-1]
