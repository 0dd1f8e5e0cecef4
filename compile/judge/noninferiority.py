"""How sure is a measured loss? Paired bootstrap over passages.

Questions of one passage are not independent: what a model misreads in it costs several answers at
once. So whole passages are drawn, with replacement, and float and INT8 are judged on the same draw:
the interval of their difference is much narrower than those of the two scores.

Shapes: Q questions, C clusters (passages), M measures (columns), R resamples.

Source: percentile intervals, Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter
13; whole clusters, Field and Welsh 2007, Bootstrapping Clustered Data, section 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["METHOD", "cluster_ids", "percentile_interval", "resampled_means"]

_CONFIDENCE = 0.95
_NUM_RESAMPLES = 10_000
_SEED = 0
# Draws held in memory at a time, as counts of clusters.
_CHUNK_COUNTS = 2**21

METHOD: Mapping[str, Any] = {
    "method": "paired bootstrap over passages, percentiles",
    "confidence": _CONFIDENCE,
    "num_resamples": _NUM_RESAMPLES,
    "seed": _SEED,
}


def cluster_ids(keys: Iterable[Hashable]) -> NDArray[np.intp]:
    """Number the clusters that questions belong to.

    Args:
        keys: For every question, what its cluster is known by (its passage).

    Returns:
        Shape (Q,): equal numbers for equal keys, from 0 on without gaps.
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.intp)


def resampled_means(
    values_QM: NDArray[np.float64],
    cluster_Q: NDArray[np.intp],
    *,
    num_resamples: int = _NUM_RESAMPLES,
    seed: int = _SEED,
) -> NDArray[np.float64]:
    """Draw clusters with replacement, as many as there are, and average over their questions.

    Args:
        values_QM: Shape (Q, M), float64, Q at least 1; every column sees the same draws.
        cluster_Q: Shape (Q,), what cluster_ids returned.
        num_resamples: Number of draws.
        seed: Of the draws.

    Returns:
        Shape (R, M), float64: the mean of every column in every draw.
    """
    num_clusters = int(cluster_Q.max()) + 1
    sum_CM = np.zeros((num_clusters, values_QM.shape[1]))
    np.add.at(sum_CM, cluster_Q, values_QM)
    size_C = np.bincount(cluster_Q).astype(np.float64)
    random = np.random.default_rng(seed)
    share_C = np.full(num_clusters, 1 / num_clusters)
    step = max(1, _CHUNK_COUNTS // num_clusters)
    means = []
    for done in range(0, num_resamples, step):
        size = min(step, num_resamples - done)
        count_RC = random.multinomial(num_clusters, share_C, size).astype(np.float64)
        means.append((count_RC @ sum_CM) / (count_RC @ size_C)[:, None])
    return np.concatenate(means)


def percentile_interval(means_R: NDArray[np.float64]) -> list[float]:
    """Return the lower and upper end that hold 95 % of the resampled means between them.

    Args:
        means_R: Shape (R,), float64.

    Returns:
        The two ends, as JSON takes them.
    """
    rest = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(means_R, (rest, 1 - rest))
    return [float(low), float(high)]
