"""How sure is a measured loss? Paired bootstrap over passages.

Questions of one passage are not independent: what a model misreads in it costs several answers at
once. So whole passages are drawn, with replacement, and float and INT8 are judged on the same draw:
the interval of their difference is much narrower than those of the two scores.

Shapes: Q questions, C clusters (passages), M measures (columns), R resamples.

Source: percentile intervals, Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter
13; whole clusters, Field and Welsh 2007, Bootstrapping Clustered Data, section 2.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "METHOD",
    "cluster_ids",
    "percentile_interval",
    "resampled_means",
    "resampled_rank_correlations",
    "resampled_sums",
]

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
    sizes_Q1 = np.ones((len(values_QM), 1))
    sum_RM = resampled_sums(
        np.concatenate([values_QM, sizes_Q1], axis=1),
        cluster_Q,
        num_resamples=num_resamples,
        seed=seed,
    )
    return sum_RM[:, :-1] / sum_RM[:, -1:]


def resampled_sums(
    values_QM: NDArray[np.float64],
    cluster_Q: NDArray[np.intp],
    *,
    num_resamples: int = _NUM_RESAMPLES,
    seed: int = _SEED,
) -> NDArray[np.float64]:
    """Draw clusters as resampled_means does, and add up their questions' values.

    Args:
        values_QM: Shape (Q, M), float64; every column sees the same draws.
        cluster_Q: Shape (Q,), what cluster_ids returned.
        num_resamples: Number of draws.
        seed: Of the draws.

    Returns:
        Shape (R, M), float64: the sum of every column in every draw, for figures that are no means.
    """
    num_clusters = int(cluster_Q.max()) + 1
    sum_CM = np.zeros((num_clusters, values_QM.shape[1]))
    np.add.at(sum_CM, cluster_Q, values_QM)
    draws = _draws(num_clusters, num_resamples, seed)
    return np.concatenate([count_RC @ sum_CM for count_RC in draws])


def resampled_rank_correlations(
    values_QM: NDArray[np.float64],
    gold_Q: NDArray[np.float64],
    cluster_Q: NDArray[np.intp],
    *,
    num_resamples: int = _NUM_RESAMPLES,
    seed: int = _SEED,
) -> NDArray[np.float64]:
    """Draw clusters as resampled_means does, and correlate ranks over their texts.

    Args:
        values_QM: Shape (Q, M), float64; every column sees the same draws.
        gold_Q: Shape (Q,), float64, what each column is correlated with.
        cluster_Q: Shape (Q,), what cluster_ids returned.
        num_resamples: Number of draws.
        seed: Of the draws.

    Returns:
        Shape (R, M), float64: Spearman's rank correlation of every column in every draw, with the
        ranks that the values have in the draw; 0 where one side is constant.
    """
    columns = [_Ranker(column_Q) for column_Q in (gold_Q, *values_QM.T)]
    result = []
    for count_RC in _draws(int(cluster_Q.max()) + 1, num_resamples, seed, width=len(gold_Q)):
        count_RQ = count_RC[:, cluster_Q]
        gold_RQ, *others = (ranker(count_RQ) for ranker in columns)
        spread_R = (count_RQ * gold_RQ**2).sum(axis=1)
        drawn = []
        for rank_RQ in others:
            scale_R = np.sqrt(spread_R * (count_RQ * rank_RQ**2).sum(axis=1))
            product_R = (count_RQ * gold_RQ * rank_RQ).sum(axis=1)
            # 0 where one side is constant, and with it the product.
            drawn.append(product_R / np.where(scale_R > 0, scale_R, 1.0))
        result.append(np.stack(drawn, axis=1))
    return np.concatenate(result)


class _Ranker:
    """Ranks one column in draws where each row stands any number of times."""

    def __init__(self, values_Q: NDArray[np.float64]) -> None:
        self._order_Q = np.argsort(values_Q, kind="stable")
        _, self._place_Q = np.unique(values_Q, return_inverse=True)
        ordered_Q = values_Q[self._order_Q]
        self._start_V = np.flatnonzero(np.r_[True, ordered_Q[1:] != ordered_Q[:-1]])

    def __call__(self, count_RQ: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ranks minus their mean, shape (R, Q); equal values share a rank."""
        count_RV = np.add.reduceat(count_RQ[:, self._order_Q], self._start_V, axis=1)
        rank_RV = np.cumsum(count_RV, axis=1) - (count_RV - 1) / 2
        total_R1 = count_RV.sum(axis=1, keepdims=True)
        rank_RV -= (count_RV * rank_RV).sum(axis=1, keepdims=True) / total_R1
        rank_RQ: NDArray[np.float64] = rank_RV[:, self._place_Q]
        return rank_RQ


def _draws(
    num_clusters: int, num_resamples: int, seed: int, *, width: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Yield how often every cluster was drawn, shape (R, C), in parts of bounded memory."""
    random = np.random.default_rng(seed)
    share_C = np.full(num_clusters, 1 / num_clusters)
    step = max(1, _CHUNK_COUNTS // max(num_clusters, width))
    for done in range(0, num_resamples, step):
        size = min(step, num_resamples - done)
        yield random.multinomial(num_clusters, share_C, size).astype(np.float64)


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
