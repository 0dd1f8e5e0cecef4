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
from compile.int8.pairs import MAX_PAIR_SUM, nearest_in_pairs, pair_excess

__all__ = ["Rounding"]

_DAMPING = 0.01
_BLOCK = 128
_LARGEST = 127
# Over all weights, where they are rounded again: later ones gain less than 1 % of the error.
_SWEEPS = 3


class Rounding:
    """Rounds weights so that a layer's output on sample rows changes least around its mean."""

    def __init__(self, x_RK: FloatArray, partner_K: NDArray[np.intp] | None = None) -> None:
        """Prepare what depends on the inputs only.

        Args:
            x_RK: Shape (R, K), float32: the layer's inputs as INT8 has them. Only what varies in
                them counts: a constant error goes into the bias.
            partner_K: Shape (K,), the other row of every row's pair (compile.int8.pairs), whose
                sums are then kept within the bound; None for weights without a bound.
        """
        self._partner_K = partner_K
        centred_RK = x_RK.astype(np.float64) - x_RK.mean(0, dtype=np.float64)
        hessian_KK = centred_RK.T @ centred_RK
        energy = float(np.trace(hessian_KK)) / len(hessian_KK)
        self._varies = energy > 0.0
        if not self._varies:
            return
        hessian_KK[np.diag_indices_from(hessian_KK)] += _DAMPING * energy
        self._hessian_KK = hessian_KK
        self._order_K = _order(np.diag(hessian_KK), partner_K)
        inverse_KK = np.linalg.inv(hessian_KK[np.ix_(self._order_K, self._order_K)])
        self._upper_KK = np.linalg.cholesky(inverse_KK).T

    def round(
        self, weight_KN: FloatArray, scale_N: FloatArray
    ) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Round a weight.

        Args:
            weight_KN: Shape (K, N), float32.
            scale_N: Shape (N,), float32, the steps of its columns.

        Returns:
            The weight of shape (K, N), int8, within [-127, 127], rounded to nearest where the
            inputs do not vary; and the squared error of every column's output, shape (N,),
            float64, damping included.
        """
        steps_KN = weight_KN.astype(np.float64) / scale_N
        if not self._varies:
            if self._partner_K is None:
                rounded_KN = _nearest(steps_KN)
            else:
                rounded_KN = nearest_in_pairs(steps_KN, self._partner_K)
            error_KN = steps_KN - rounded_KN
            return rounded_KN, np.square(error_KN * scale_N).sum(0)
        is_first_K = np.zeros(len(steps_KN), bool)
        if self._partner_K is not None:
            is_first_K[:-1] = self._partner_K[self._order_K[:-1]] == self._order_K[1:]
        rounded_KN = np.empty(weight_KN.shape, np.int8)
        rounded_KN[self._order_K], loss_N = _round_in_order(
            steps_KN[self._order_K], self._upper_KK, is_first_K
        )
        return rounded_KN, loss_N * np.square(scale_N.astype(np.float64))

    def refine(
        self, rounded_KN: NDArray[np.int8], weight_KN: FloatArray, scale_N: FloatArray
    ) -> NDArray[np.int8]:
        """Round weights again, one at a time, now that all others are known.

        Args:
            rounded_KN: Shape (K, N), int8, what round has made of the weight.
            weight_KN: Shape (K, N), float32.
            scale_N: Shape (N,), float32, the steps of its columns.

        Returns:
            Shape (K, N), int8, with no more squared error of the output than before.
        """
        if not self._varies:
            return rounded_KN
        refined_KN = rounded_KN.astype(np.float64)
        # What the error grows by with a weight, halved, and what that grows by.
        slope_KN = self._hessian_KK @ (weight_KN.astype(np.float64) / scale_N - refined_KN)
        size_K = np.diag(self._hessian_KK)
        widest_N = np.full(len(scale_N), _LARGEST, np.float64)
        for row in [*self._order_K] * _SWEEPS:
            low_N, high_N = -widest_N, widest_N
            if self._partner_K is not None and self._partner_K[row] != row:
                low_N, high_N = _bounds(refined_KN[self._partner_K[row]])
            wanted_N = np.rint(refined_KN[row] + slope_KN[row] / size_K[row])
            change_N = np.clip(wanted_N, low_N, high_N) - refined_KN[row]
            changed = np.flatnonzero(change_N)
            refined_KN[row, changed] += change_N[changed]
            slope_KN[:, changed] -= np.outer(self._hessian_KK[:, row], change_N[changed])
        return refined_KN.astype(np.int8)


def _bounds(other_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest weight that keep the bound beside the pair's other one."""
    low_N: NDArray[np.float64] = np.maximum(-_LARGEST, -MAX_PAIR_SUM - other_N)
    high_N: NDArray[np.float64] = np.minimum(_LARGEST, MAX_PAIR_SUM - other_N)
    return low_N, high_N


def _order(size_K: NDArray[np.float64], partner_K: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Put channels that matter most first, while there are others left to make good for them.

    A pair stays together, and its larger channel comes first.
    """
    if partner_K is None:
        return np.argsort(-size_K, kind="stable")
    pair_K = np.minimum(np.arange(len(partner_K)), partner_K)
    return np.lexsort((pair_K, -size_K, pair_K, -np.maximum(size_K, size_K[partner_K])))


def _nearest(steps: NDArray[np.float64]) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = np.clip(np.rint(steps), -_LARGEST, _LARGEST).astype(np.int8)
    return rounded


def _round_in_order(
    steps_KN: NDArray[np.float64],
    upper_KK: NDArray[np.float64],
    is_first_K: NDArray[np.bool_],
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Round row by row; the error of a row is taken back by the rows behind it.

    is_first_K marks rows that make a bounded pair with the next one. Returns the rows, and the
    squared error of every column in units of its steps.
    """
    rounded_KN = np.empty(steps_KN.shape, np.int8)
    loss_N = np.zeros(steps_KN.shape[1])
    widest_N = np.full(steps_KN.shape[1], _LARGEST, np.float64)
    low_N, high_N = -widest_N, widest_N
    end = 0
    while end < len(steps_KN):
        begin, end = end, min(end + _BLOCK, len(steps_KN))
        end += bool(is_first_K[end - 1])  # a pair stays together
        # Within a block row by row, behind it in one product: the same sums, much faster.
        error_BN = np.empty_like(steps_KN[begin:end])
        for row in range(begin, end):
            wanted_N = steps_KN[row]
            if is_first_K[row]:
                next_N = steps_KN[row + 1]
                wanted_N = wanted_N - _first_share(upper_KK, row) * pair_excess(wanted_N + next_N)
            rounded_KN[row] = np.clip(np.rint(wanted_N), low_N, high_N)
            low_N, high_N = -widest_N, widest_N
            if is_first_K[row]:
                low_N, high_N = _bounds(rounded_KN[row].astype(np.float64))
            error_BN[row - begin] = (steps_KN[row] - rounded_KN[row]) / upper_KK[row, row]
            steps_KN[row + 1 : end] -= np.outer(upper_KK[row, row + 1 : end], error_BN[row - begin])
        loss_N += np.square(error_BN).sum(0)
        steps_KN[end:] -= upper_KK[begin:end, end:].T @ error_BN
    return rounded_KN, loss_N


def _first_share(upper_KK: NDArray[np.float64], row: int) -> float:
    """Return the part of a pair's excess that costs least where its first row bears it.

    The rows behind the pair make good what they can: what is left of a change d of both is
    d (A^-1) d with A the pair's part of the inverse, least under d0 + d1 = 1 for d = A 1 / 1 A 1.
    """
    a, b, c = upper_KK[row, row], upper_KK[row, row + 1], upper_KK[row + 1, row + 1]
    first, both, second = a * a, a * b, b * b + c * c
    return float((first + both) / (first + 2 * both + second))
