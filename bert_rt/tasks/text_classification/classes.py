"""Logits of a text's classes -> the best classes, with scores.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_rt.tasks.text_classification.head import apply_function
from bert_rt.types import Classification, FloatArray

__all__ = ["rank_classes"]


def rank_classes(
    logits_C: FloatArray,
    labels: Sequence[str],
    *,
    top_k: int = 1,
    score_temperature: float = 1.0,
    function: str = "softmax",
) -> Classification:
    """Find the best classes of one text.

    Args:
        logits_C: Shape (C,), float32.
        labels: Names of the C classes.
        top_k: Classes wanted; those after the best are its alternatives.
        score_temperature: What logits are divided by before scores are made of them, above 0. It
            changes no rank.
        function: What makes scores of logits: "softmax", "sigmoid" or "none".

    Returns:
        The class of the greatest logit; of equal ones the first.
    """
    logits = logits_C.astype(np.float64)
    # The greatest one first, so that a small temperature overflows nothing.
    shift = logits.max() if function == "softmax" else 0.0
    scores = apply_function(function, (logits - shift) / score_temperature)
    every = tuple(logits.tolist())
    best, *others = (
        Classification(labels[index], float(scores[index]), index, every[index], every)
        for index in np.argsort(-logits, kind="stable")[:top_k].tolist()
    )
    return Classification(
        best.label, best.score, best.index, best.logit, every, alternatives=tuple(others)
    )
