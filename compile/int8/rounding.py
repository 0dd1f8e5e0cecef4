"""Weights rounded one input channel after the other, each making good the error of those before.

Rounding to nearest is best for a weight by itself. For the layer's output it is not: inputs are
correlated, so what one weight's rounding adds, weights of related channels can take back.

Source: Frantar et al. 2022 (GPTQ), arXiv:2210.17323, section 3 (Cholesky form, blocks, damping);
order by size of the diagonal as in its reference code (act_order).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bert_rt.types import FloatArray

__all__ = ["round_weight"]

_DAMPING = 0.01
_BLOCK = 128


def round_weight(weight_KN: FloatArray, scale_N: FloatArray, x_RK: FloatArray) -> NDArray[np.int8]:
    """Round a weight so that the layer's output on sample rows changes least around its mean.

    Args:
        weight_KN: Shape (K, N), float32.
        scale_N: Shape (N,), float32, the steps of its columns.
        x_RK: Shape (R, K), float32: the layer's inputs as INT8 has them. Only what varies in them
            counts: a constant error goes into the bias.

    Returns:
        Shape (K, N), int8, within [-127, 127]; rounded to nearest where the inputs do not vary.
    """
    centred_RK = x_RK.astype(np.float64) - x_RK.mean(0, dtype=np.float64)
    hessian_KK = centred_RK.T @ centred_RK
    energy = float(np.trace(hessian_KK)) / len(hessian_KK)
    steps_KN = weight_KN.astype(np.float64) / scale_N
    if energy <= 0.0:
        return _nearest(steps_KN)
    hessian_KK[np.diag_indices_from(hessian_KK)] += _DAMPING * energy
    # Channels that matter most come first, while there are others left to make good for them.
    order_K = np.argsort(-np.diag(hessian_KK), kind="stable")
    inverse_KK = np.linalg.inv(hessian_KK[np.ix_(order_K, order_K)])
    upper_KK = np.linalg.cholesky(inverse_KK).T
    rounded_KN = np.empty(weight_KN.shape, np.int8)
    rounded_KN[order_K] = _round_in_order(steps_KN[order_K], upper_KK)
    return rounded_KN


def _nearest(steps: NDArray[np.float64]) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = np.clip(np.rint(steps), -127, 127).astype(np.int8)
    return rounded


def _round_in_order(
    steps_KN: NDArray[np.float64], upper_KK: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Round row by row; the error of a row is taken back by the rows behind it."""
    rounded_KN = np.empty(steps_KN.shape, np.int8)
    for begin in range(0, len(steps_KN), _BLOCK):
        end = min(begin + _BLOCK, len(steps_KN))
        # Within a block row by row, behind it in one product: the same sums, much faster.
        error_BN = np.empty_like(steps_KN[begin:end])
        for row in range(begin, end):
            rounded_KN[row] = _nearest(steps_KN[row])
            error_BN[row - begin] = (steps_KN[row] - rounded_KN[row]) / upper_KK[row, row]
            steps_KN[row + 1 : end] -= np.outer(upper_KK[row, row + 1 : end], error_BN[row - begin])
        steps_KN[end:] -= upper_KK[begin:end, end:].T @ error_BN
    return rounded_KN
