"""Tests of compile.int8.rounding."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compile.int8.rounding import round_weight
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
