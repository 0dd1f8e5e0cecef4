"""How good translations are: BLEU and chrF as sacrebleu computes them, with its signature.

Source: Post 2018, arXiv:1804.08771; of BLEU Papineni et al. 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TranslationScores", "bleu_of", "bleu_statistics", "score_translations"]

_ORDER = 4


@dataclass(frozen=True, slots=True)
class TranslationScores:
    """Scores of a whole test set.

    Attributes:
        bleu: BLEU of 4-grams: cased, tokenized as by mteval-v13a.
        chrf: chrF of 6 characters, beta 2.
        bleu_signature: What was computed, and by which version.
        chrf_signature: The same.
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def score_translations(given: Sequence[str], references: Sequence[str]) -> TranslationScores:
    """Score translations against one reference each.

    Args:
        given: What a model gave, at least one.
        references: What people gave, as many.

    Returns:
        The scores.
    """
    # Only for scores: who translates needs no sacrebleu.
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    assert len(given) == len(references), f"{len(given)} translations, {len(references)} references"
    bleu, chrf = BLEU(), CHRF()
    texts = (list(given), [list(references)])
    return TranslationScores(
        bleu=bleu.corpus_score(*texts).score,
        chrf=chrf.corpus_score(*texts).score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def bleu_statistics(given: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Count what BLEU is computed of, text by text, so that any selection can be scored.

    Args:
        given: What a model gave.
        references: What people gave, as many.

    Returns:
        Shape (Q, 10), float64: n-grams of 1 to 4 tokens that the reference has, too, all n-grams,
        tokens given and tokens of the reference. Sums over texts are those of all of them.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU()
    scores = [bleu.corpus_score([a], [[b]]) for a, b in zip(given, references, strict=True)]
    rows = [[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores]
    return np.array(rows, np.float64)


def bleu_of(statistics: NDArray[np.float64]) -> float:
    """Return BLEU of the sums of some texts' statistics, shape (10,)."""
    from sacrebleu.metrics.bleu import BLEU

    counts = [int(value) for value in statistics]
    score = BLEU.compute_bleu(
        counts[:_ORDER],
        counts[_ORDER : 2 * _ORDER],
        counts[-2],
        counts[-1],
        smooth_method="exp",
    )
    return float(score.score)
