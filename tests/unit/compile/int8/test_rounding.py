"""Tests of compile.int8.rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compile.int8.pairs import choose_scales, count_broken_pairs, find_partners, nearest_in_pairs
from compile.int8.rounding import Rounding
from compile.int8.search import quantize_weight
from tests.unit.compile.graphs import normal


def correlated_rows(num_rows: int, k: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return rows whose channels are mixtures of a few: as in BERT, most say the same again."""
    few = normal(num_rows, max(1, k // 4), seed=seed)
    mixed = few @ normal(few.shape[1], k, seed=100)
    rows: NDArray[np.float32] = (mixed + normal(num_rows, k, seed=seed + 1, scale=0.1)).astype(
        np.float32
    )
    return rows


def round_weight(
    weight_KN: NDArray[np.float32], scale_N: NDArray[np.float32], x_RK: NDArray[np.float32]
) -> NDArray[np.int8]:
    return Rounding(x_RK).round(weight_KN, scale_N)[0]


def output_error(
    rounded_KN: NDArray[np.int8], x_RK: NDArray[np.float32], weight_KN: NDArray[np.float32]
) -> float:
    scale_N = quantize_weight(weight_KN)[1]
    error_RN = x_RK @ (weight_KN - rounded_KN * scale_N)
    return float(np.square(error_RN - error_RN.mean(0)).sum())


@pytest.mark.parametrize("k", [1, 2, 24, 128, 129, 300])
def test_less_error_than_the_nearest_steps_on_rows_it_has_not_seen(k: int) -> None:
    weight_KN = normal(k, 20, seed=3)
    nearest_KN, scale_N = quantize_weight(weight_KN)
    rounded_KN = round_weight(weight_KN, scale_N, correlated_rows(1500, k))
    assert (rounded_KN.dtype, rounded_KN.shape) == (np.int8, weight_KN.shape)
    assert rounded_KN.min() >= -127
    others = correlated_rows(500, k, seed=50)
    error = output_error(rounded_KN, others, weight_KN)
    limit = 0.5 if k >= 24 else 1.0  # there must be neighbours to make good for
    assert error <= limit * output_error(nearest_KN, others, weight_KN)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_KN, x_RK = normal(70, 12, seed=3), correlated_rows(400, 70)
    scale_N = quantize_weight(weight_KN)[1]
    whole = round_weight(weight_KN, scale_N, x_RK)
    for block in (1, 7, 70):
        monkeypatch.setattr("compile.int8.rounding._BLOCK", block)
        np.testing.assert_array_equal(round_weight(weight_KN, scale_N, x_RK), whole)


def test_two_equal_channels_share_what_one_cannot_hold() -> None:
    # The sum of both weights counts: 0.4 and 0.4 of a step are nearly one step, not none.
    x_RK = np.repeat(normal(200, 1), 2, axis=1)
    weight_KN = np.array([[0.4], [0.4]], np.float32)
    rounded_KN = round_weight(weight_KN, np.ones(1, np.float32), x_RK)
    assert rounded_KN.sum() == 1


def test_inputs_without_correlation_leave_the_nearest_steps() -> None:
    # An orthogonal design: nothing that one channel loses can be had from another.
    x_RK = np.kron(np.eye(8), [[1.0], [-1.0]]).astype(np.float32)
    weight_KN = normal(8, 6, seed=1)
    nearest_KN, scale_N = quantize_weight(weight_KN)
    np.testing.assert_array_equal(round_weight(weight_KN, scale_N, x_RK), nearest_KN)


@pytest.mark.parametrize("value", [0.0, 3.0, 1e30])
def test_inputs_that_do_not_vary(value: float) -> None:
    weight_KN = normal(8, 6)
    nearest_KN, scale_N = quantize_weight(weight_KN)
    x_RK = np.full((16, 8), value, np.float32)
    np.testing.assert_array_equal(round_weight(weight_KN, scale_N, x_RK), nearest_KN)


def test_fewer_rows_than_channels_and_dead_channels() -> None:
    weight_KN, x_RK = normal(40, 6), correlated_rows(10, 40)
    x_RK[:, ::3] = 0
    scale_N = quantize_weight(weight_KN)[1]
    rounded_KN = round_weight(weight_KN, scale_N, x_RK)
    # A channel that is never there is rounded by itself.
    np.testing.assert_array_equal(rounded_KN[::3], quantize_weight(weight_KN)[0][::3])


# Pairs whose sums are bounded


def paired_weight(k: int, n: int, *, seed: int) -> NDArray[np.float32]:
    """Return a weight many of whose pairs break the bound: neighbours are alike."""
    rows = np.repeat(normal((k + 1) // 2, n, seed=seed), 2, axis=0)[:k]
    weight_KN: NDArray[np.float32] = rows + normal(k, n, seed=seed + 1, scale=0.2)
    return weight_KN


@given(
    k=st.integers(1, 40),
    n=st.integers(1, 6),
    left_out=st.sets(st.integers(0, 39)),
    seed=st.integers(0, 1000),
    block=st.integers(1, 9),
)
def test_no_pair_breaks_the_bound(
    k: int, n: int, left_out: set[int], seed: int, block: int
) -> None:
    channels = np.array([c for c in range(k) if c not in left_out] or [0])
    weight_KN = paired_weight(k, n, seed=seed)[channels]
    x_RK = correlated_rows(60, k, seed=seed)[:, channels]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compile.int8.rounding._BLOCK", block)
        rounding = Rounding(x_RK, find_partners(channels))
        # Steps that are too small: weights beyond 127 are cut off, and pairs are all over.
        scale_N = quantize_weight(weight_KN)[1] * np.float32(0.8)
        rounded_KN, _ = rounding.round(weight_KN, scale_N)
    assert rounded_KN.min() >= -127
    whole_KN = np.zeros((k, n), np.int8)
    whole_KN[channels] = rounded_KN
    assert count_broken_pairs(whole_KN) == 0


@given(k=st.integers(8, 60), seed=st.integers(0, 1000))
def test_less_error_than_clipping(k: int, seed: int) -> None:
    weight_KN, x_RK = paired_weight(k, 5, seed=seed), correlated_rows(500, k, seed=seed)
    scale_N = quantize_weight(weight_KN)[1]
    partner_K = find_partners(np.arange(k))
    rounding = Rounding(x_RK, partner_K)
    rounded_KN, found_N = choose_scales(scale_N, lambda wider_N: rounding.round(weight_KN, wider_N))
    assert (found_N >= scale_N).all()

    def error_N(weight_q_KN: NDArray[np.int8], steps_N: NDArray[np.float32]) -> NDArray[np.float64]:
        error_RN = x_RK @ (weight_KN - weight_q_KN * steps_N)
        return np.square(error_RN - error_RN.mean(0), dtype=np.float64).sum(0)

    unbounded_KN = round_weight(weight_KN, scale_N, x_RK)
    for clipped_KN in (
        nearest_in_pairs(weight_KN / scale_N.astype(np.float64), partner_K),
        nearest_in_pairs(unbounded_KN.astype(np.float64), partner_K),
    ):
        assert error_N(rounded_KN, found_N).sum() <= error_N(clipped_KN, scale_N).sum()


def test_the_error_is_that_of_the_output() -> None:
    weight_KN, x_RK = paired_weight(24, 5, seed=3), correlated_rows(900, 24)
    scale_N = quantize_weight(weight_KN)[1]
    for partner_K in (None, find_partners(np.arange(24))):
        rounded_KN, got_N = Rounding(x_RK, partner_K).round(weight_KN, scale_N)
        error_RN = x_RK @ (weight_KN - rounded_KN * scale_N)
        want_N = np.square(error_RN - error_RN.mean(0), dtype=np.float64).sum(0)
        damping = 0.01 * np.square(x_RK - x_RK.mean(0)).sum() / 24
        want_N += damping * np.square(weight_KN - rounded_KN * scale_N).sum(0)
        np.testing.assert_allclose(got_N, want_N, rtol=1e-4)


def test_pairs_within_the_bound_change_nothing_else() -> None:
    # Bounded pairs stay together in the order, which is all that is different then.
    x_RK = np.repeat(normal(200, 1), 2, axis=1)
    weight_KN = np.array([[0.4], [0.4]], np.float32)
    rounding = Rounding(x_RK, find_partners(np.arange(2)))
    assert rounding.round(weight_KN, np.ones(1, np.float32))[0].sum() == 1


def test_what_one_of_a_pair_cannot_hold_a_third_one_does() -> None:
    # Three equal channels: their sum counts, and the third has room for what the pair has not.
    x_RK = np.repeat(normal(200, 1), 3, axis=1)
    weight_KN = np.array([[100.0], [100.0], [10.0]], np.float32)
    rounding = Rounding(x_RK, find_partners(np.arange(3)))
    rounded_KN, _ = rounding.round(weight_KN, np.ones(1, np.float32))
    assert count_broken_pairs(rounded_KN) == 0
    assert abs(rounded_KN.sum(dtype=int) - 210) <= 1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_bounded_pairs_of_inputs_that_do_not_vary(value: float) -> None:
    weight_KN = paired_weight(8, 6, seed=2)
    scale_N = quantize_weight(weight_KN)[1]
    partner_K = find_partners(np.arange(8))
    x_RK = np.full((16, 8), value, np.float32)
    rounded_KN, _ = Rounding(x_RK, partner_K).round(weight_KN, scale_N)
    wanted_KN = nearest_in_pairs(weight_KN / scale_N.astype(np.float64), partner_K)
    np.testing.assert_array_equal(rounded_KN, wanted_KN)


@pytest.mark.parametrize("is_bounded", [False, True])
def test_refined_weights_have_less_error(is_bounded: bool) -> None:
    weight_KN, x_RK = paired_weight(60, 8, seed=1), correlated_rows(900, 60)
    scale_N = quantize_weight(weight_KN)[1]
    rounding = Rounding(x_RK, find_partners(np.arange(60)) if is_bounded else None)
    rounded_KN, _ = rounding.round(weight_KN, scale_N)
    refined_KN = rounding.refine(rounded_KN, weight_KN, scale_N)
    assert refined_KN.dtype == np.int8
    assert np.abs(refined_KN.astype(int)).max() <= 127
    assert (count_broken_pairs(refined_KN) == 0) is is_bounded
    before, after = (
        output_error(weight_q_KN, x_RK, weight_KN) for weight_q_KN in (rounded_KN, refined_KN)
    )
    assert after < before
    # What it is given stays as it is.
    np.testing.assert_array_equal(rounded_KN, rounding.round(weight_KN, scale_N)[0])


def test_inputs_that_do_not_vary_leave_nothing_to_refine() -> None:
    weight_KN = normal(8, 6)
    nearest_KN, scale_N = quantize_weight(weight_KN)
    rounding = Rounding(np.full((16, 8), 3.0, np.float32))
    np.testing.assert_array_equal(rounding.refine(nearest_KN, weight_KN, scale_N), nearest_KN)
