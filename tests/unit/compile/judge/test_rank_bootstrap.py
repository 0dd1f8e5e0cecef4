"""Tests of the bootstrap of rank correlations in compile.judge.noninferiority."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import spearman_corrcoef

from bert_rt.tasks.metrics import label_f1, rank_correlation
from compile.judge.noninferiority import cluster_ids, resampled_rank_correlations


@pytest.mark.parametrize("levels", [3, 10_000])
def test_rank_correlation_is_spearmans(levels: int) -> None:
    random = np.random.default_rng(1)
    x = random.integers(levels, size=200).astype(float)
    y = x + levels * random.standard_normal(200)
    wanted = float(spearman_corrcoef(torch.from_numpy(x), torch.from_numpy(y)))
    assert rank_correlation(x, y) == pytest.approx(wanted, abs=1e-6)
    assert rank_correlation(x, -x) == pytest.approx(-1)
    assert rank_correlation(x, np.exp(x / levels)) == pytest.approx(1)
    assert rank_correlation(x, np.ones(200)) == 0


def test_draws_are_ranked_anew() -> None:
    random = np.random.default_rng(2)
    gold = random.integers(5, size=30).astype(float)
    values = np.stack([gold + random.standard_normal(30), random.standard_normal(30)], axis=1)
    cluster = cluster_ids(range(30))
    got = resampled_rank_correlations(values, gold, cluster, num_resamples=50, seed=7)
    assert got.shape == (50, 2)
    # The same draws, spelled out.
    counts = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), 50)
    for count, row in zip(counts, got, strict=True):
        drawn = np.repeat(np.arange(30), count)
        for column in range(2):
            wanted = rank_correlation(values[drawn, column], gold[drawn])
            assert row[column] == pytest.approx(wanted, abs=1e-9)


def test_constant_values_correlate_with_nothing() -> None:
    got = resampled_rank_correlations(
        np.ones((4, 1)), np.arange(4.0), cluster_ids(range(4)), num_resamples=10
    )
    assert got.tolist() == [[0.0]] * 10


def test_f1_of_labels() -> None:
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
    given = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
    # 2/3 for the first, 2/3 for the second; the third label is never given nor right.
    assert label_f1(given, gold) == pytest.approx(200 / 3)
    nothing = np.zeros((2, 2), bool)
    assert label_f1(nothing, nothing) == 100
    assert label_f1(~nothing, nothing) == 0
