"""Channels put in an order in which few pairs of weights are beyond the bound.

Which two rows of a weight make a pair (compile.int8.pairs) is a question of the order of its input
channels. Two of an encoder layer's four inputs may have any order: the values' channels of an
attention head, and the channels behind a GELU. The columns and the bias of the layer in front move
along, and what the model computes stays the same. So rows with large weights are put beside rows
with small ones, or with weights of the other sign.

Shapes: K rows, N columns, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bert_rt.types import FloatArray
from compile.graph.linear import (
    ATTENTION_OUTPUT,
    CROSS_OUTPUT,
    FFN_INPUT,
    FFN_OUTPUT,
    QKV,
    LinearLayer,
    find_linear_layers,
)
from compile.int8.balance import replace_constants
from compile.int8.calibrate import Observer
from compile.int8.pairs import pair_excess
from compile.int8.search import choose_smoothing, quantize_weight

__all__ = ["match_channels", "match_rows"]

# Rows that are matched with each other: the cost of all pairs is the square of it.
_MAX_GROUP = 512


def match_channels(
    model: ir.Model,
    observers: Mapping[str, Observer],
    *,
    num_heads: int,
    num_outliers: int,
    seed: int,
) -> None:
    """Reorder what may be reordered, so that neighbours suit each other.

    Args:
        model: The fused float graph; its linear layers are changed in place.
        observers: Layer name to what its input looks like; those of reordered inputs are changed.
        num_heads: Attention heads of the model.
        num_outliers: Channels behind a GELU that may stay in float.
        seed: Of the choice of rows that smoothing is judged on.
    """
    layers = {layer.name: layer for layer in find_linear_layers(model)}
    for name, layer in layers.items():
        if name.endswith(CROSS_OUTPUT):
            # Its values are made in another graph.
            continue
        if name.endswith(ATTENTION_OUTPUT):
            front = layers[name.removesuffix(ATTENTION_OUTPUT) + QKV]
            group, outliers = len(layer.weight_KN) // num_heads, 0
        elif name.endswith(FFN_OUTPUT):
            front = layers[name.removesuffix(FFN_OUTPUT) + FFN_INPUT]
            group, outliers = _group_size(len(layer.weight_KN)), num_outliers
        else:
            continue
        smooth_K = choose_smoothing(
            layer.weight_KN, observers[name], num_outliers=outliers, seed=seed
        )
        order_K = _order(layer.weight_KN, smooth_K, observers[name].rows_RK, group)
        observers[name].reorder(order_K)
        _reorder(model, front, layer, order_K)


def _group_size(num_rows: int) -> int:
    """Return the largest even divisor of a number of rows that is not above _MAX_GROUP."""
    sizes = [size for size in range(2, _MAX_GROUP + 1, 2) if num_rows % size == 0]
    return max(sizes, default=num_rows)


def _reorder(
    model: ir.Model, front: LinearLayer, layer: LinearLayer, order_K: NDArray[np.intp]
) -> None:
    """Give the last outputs of a layer, and the rows of the one behind, another order."""
    num_kept = len(front.bias_N) - len(order_K)
    order_N = np.concatenate([np.arange(num_kept), num_kept + order_K])
    replace_constants(model, front, "matched", front.weight_KN[:, order_N], front.bias_N[order_N])
    replace_constants(model, layer, "matched", layer.weight_KN[order_K], None)


def _order(
    weight_KN: FloatArray, smooth_K: FloatArray, x_RK: FloatArray, group: int
) -> NDArray[np.intp]:
    """Find the order of rows, each group by itself."""
    is_int8_K = smooth_K != 0
    steps_KN = np.zeros(weight_KN.shape, np.float64)
    smoothed_KN = weight_KN[is_int8_K] / smooth_K[is_int8_K, None]
    steps_KN[is_int8_K] = smoothed_KN / quantize_weight(smoothed_KN)[1]
    energy_K = np.square(x_RK.std(0, dtype=np.float64) * smooth_K)
    order_K = np.arange(len(weight_KN))
    for begin in range(0, len(order_K), group):
        rows = slice(begin, begin + group)
        order_K[rows] = begin + match_rows(steps_KN[rows], energy_K[rows])
    return order_K


def match_rows(steps_KN: NDArray[np.float64], energy_K: NDArray[np.float64]) -> NDArray[np.intp]:
    """Find pairs of rows that are beyond the bound as little as possible.

    Args:
        steps_KN: Shape (K, N), float64, a weight in units of its scales.
        energy_K: Shape (K,), float64, the variance of every row's input.

    Returns:
        The rows in another order, shape (K,): neighbours make a pair. The last one of an odd
        number stays where it is. No pair of exchanges makes it better.
    """
    num_rows = len(steps_KN) // 2 * 2
    cost_KK = _costs(steps_KN[:num_rows], energy_K[:num_rows])
    left = list(np.argsort(-cost_KK.sum(1), kind="stable"))
    pairs = []
    # The worst row first, while there is a choice.
    while left:
        first = left.pop(0)
        second = left.pop(int(np.argmin(cost_KK[first, left])))
        pairs.append((first, second))
    pairs_P2 = _exchange(np.array(pairs, np.intp).reshape(-1, 2), cost_KK)
    return np.concatenate([pairs_P2.reshape(-1), np.arange(num_rows, len(steps_KN))])


def _costs(steps_KN: NDArray[np.float64], energy_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared error that every two rows would make as a pair, shape (K, K)."""
    cost_KK = np.empty((len(steps_KN), len(steps_KN)))
    for row, steps_N in enumerate(steps_KN):
        excess_KN = pair_excess(steps_N + steps_KN)
        # Of two rows the one gives way whose input matters less.
        cost_KK[row] = np.square(excess_KN).sum(1) * np.minimum(energy_K[row], energy_K)
    return cost_KK


def _exchange(pairs_P2: NDArray[np.intp], cost_KK: NDArray[np.float64]) -> NDArray[np.intp]:
    """Exchange rows of two pairs as long as that lowers the sum of the costs."""
    pairs_P2 = pairs_P2.copy()
    is_better = True
    while is_better:
        is_better = False
        for index in range(len(pairs_P2)):
            first, second = pairs_P2[index]
            before_P = cost_KK[first, second] + cost_KK[pairs_P2[:, 0], pairs_P2[:, 1]]
            for column in (0, 1):
                # The first row with the other pair's row of this column, the second with the other.
                others_P, rest_P = pairs_P2[:, column], pairs_P2[:, 1 - column]
                gain_P = before_P - cost_KK[first, others_P] - cost_KK[second, rest_P]
                gain_P[index] = 0.0
                other = int(np.argmax(gain_P))
                # A little more than rounding, so that it ends.
                if gain_P[other] > 1e-9 * before_P[other]:
                    pairs_P2[index] = first, others_P[other]
                    pairs_P2[other] = second, rest_P[other]
                    is_better = True
                    break
    return pairs_P2
