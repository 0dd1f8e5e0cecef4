"""Tests of compile.judge.noninferiority."""

from __future__ import annotations

import numpy as np
import pytest

from compile.judge.noninferiority import cluster_ids, percentile_interval, resampled_means


def test_clusters_are_numbered_as_they_come() -> None:
    assert cluster_ids(["b", "a", "b", "c", "a"]).tolist() == [0, 1, 0, 2, 1]


def test_every_draw_is_an_average_of_whole_clusters() -> None:
    values = np.array([[1.0], [1.0], [1.0], [5.0]])
    means = resampled_means(values, np.array([0, 0, 0, 1]), num_resamples=2000)[:, 0]
    # Two draws of two clusters of sizes 3 and 1: (3 * 1) / 3, (3 + 5) / 4 or 5.
    assert set(means.tolist()) == {1.0, 2.0, 5.0}
    assert np.mean(means == 2.0) == pytest.approx(0.5, abs=0.05)


def test_columns_are_paired() -> None:
    random = np.random.default_rng(3)
    values = random.random((400, 1))
    both = np.concatenate([values, values - 0.25], axis=1)
    means = resampled_means(both, cluster_ids(range(400)), num_resamples=500)
    assert np.ptp(means[:, 0]) > 0.02
    np.testing.assert_allclose(means[:, 0] - means[:, 1], 0.25, rtol=0, atol=1e-12)


def test_the_interval_of_independent_questions_is_the_textbook_one() -> None:
    random = np.random.default_rng(0)
    values = random.normal(10, 2, (2500, 1))
    means = resampled_means(values, cluster_ids(range(2500)))
    low, high = percentile_interval(means[:, 0])
    error = values.std() / 50
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.05)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=error / 10)


def test_questions_that_err_together_widen_it() -> None:
    random = np.random.default_rng(0)
    per_passage = random.random((50, 1))
    values = np.repeat(per_passage, 20, axis=0)
    width = {}
    for name, keys in {
        "passages": np.repeat(np.arange(50), 20).tolist(),
        "questions": list(range(1000)),
    }.items():
        means = resampled_means(values, cluster_ids(keys), num_resamples=3000)
        low, high = percentile_interval(means[:, 0])
        width[name] = high - low
    # 20 copies of one answer are one observation: sqrt(20) times as wide.
    assert width["passages"] / width["questions"] == pytest.approx(20**0.5, rel=0.15)


def test_equal_seeds_give_equal_draws_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random((30, 2))
    clusters = np.repeat(np.arange(10), 3)
    whole = resampled_means(values, clusters, num_resamples=100)
    monkeypatch.setattr("compile.judge.noninferiority._CHUNK_COUNTS", 70)
    np.testing.assert_array_equal(resampled_means(values, clusters, num_resamples=100), whole)
    other = resampled_means(values, clusters, num_resamples=100, seed=1)
    assert not np.array_equal(other, whole)


def test_one_cluster_leaves_no_doubt() -> None:
    means = resampled_means(np.array([[1.0], [0.0]]), np.array([0, 0]), num_resamples=10)
    assert percentile_interval(means[:, 0]) == [0.5, 0.5]
