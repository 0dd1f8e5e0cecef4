"""Pairs of weights whose products AVX2 adds in 16 bits, and the bound that keeps their sum exact.

vpmaddubsw multiplies two u8 by two s8 and adds both products in a 16-bit lane, which saturates. Of
a weight [K, N] these are rows 2 i and 2 i + 1 of a column, in ONNX Runtime (MLAS) and in OpenVINO
(oneDNN) alike. With activations up to 255 the sum is exact where |w0 + w1| <= 128, because
255 * 128 < 2^15: weights of two signs always are, weights of one sign where they share 128.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bert_rt.errors import ParityError
from bert_rt.types import FloatArray
from compile.graph.rules.constants import tensor_of

__all__ = [
    "MAX_PAIR_SUM",
    "check_pairs",
    "choose_scales",
    "count_broken_pairs",
    "find_partners",
    "nearest_in_pairs",
    "pair_excess",
]

MAX_PAIR_SUM = 128
_LARGEST = 127
# Scales of a column that are tried, over the one that its largest weight asks for: wider ones leave
# fewer pairs above the bound, and coarser steps.
_WIDENINGS = (1.0, 1.04, 1.08, 1.12, 1.16, 1.2, 1.25, 1.3, 1.35, 1.4)


def count_broken_pairs(weight_KN: NDArray[np.int8]) -> int:
    """Count the pairs of a weight whose products may not fit into 16 bits.

    Args:
        weight_KN: Shape (K, N), int8.

    Returns:
        Their number, over all columns; the last row of an odd K is in no pair.
    """
    wide_KN = weight_KN[: len(weight_KN) // 2 * 2].astype(np.int16)
    return int(np.count_nonzero(np.abs(wide_KN[::2] + wide_KN[1::2]) > MAX_PAIR_SUM))


def find_partners(channels_K: NDArray[np.intp]) -> NDArray[np.intp]:
    """Find the other row of every row's pair.

    Args:
        channels_K: Shape (K,), ascending: the rows of the whole weight that are here. Those that
            are left out are 0 there.

    Returns:
        Shape (K,): the partner's place in channels_K, or a row's own place where it has none.
    """
    place = {int(channel): index for index, channel in enumerate(channels_K)}
    return np.array(
        [place.get(channel ^ 1, index) for channel, index in place.items()], dtype=np.intp
    )


def pair_excess(sum_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what must be taken from sums of pairs to bring them within the bound.

    Args:
        sum_N: The sums, float64.

    Returns:
        Of the same shape, float64; 0 where the bound holds, negative where a sum is too low.
    """
    excess_N: NDArray[np.float64] = sum_N - np.clip(sum_N, -MAX_PAIR_SUM, MAX_PAIR_SUM)
    return excess_N


def nearest_in_pairs(
    steps_KN: NDArray[np.float64], partner_K: NDArray[np.intp]
) -> NDArray[np.int8]:
    """Round every pair to the nearest one within the bound, or one step beside it.

    Args:
        steps_KN: Shape (K, N), float64, in units of the scale.
        partner_K: Shape (K,), as find_partners gives it.

    Returns:
        Shape (K, N), int8, within [-127, 127].
    """
    rounded_KN = np.clip(np.rint(steps_KN), -_LARGEST, _LARGEST)
    first = np.flatnonzero(partner_K > np.arange(len(partner_K)))
    second = partner_K[first]
    excess_PN = pair_excess(rounded_KN[first] + rounded_KN[second])
    # Half of it from each; of an odd excess the first gives one more.
    from_second_PN = np.trunc(excess_PN / 2)
    rounded_KN[first] -= excess_PN - from_second_PN
    rounded_KN[second] -= from_second_PN
    return rounded_KN.astype(np.int8)


def choose_scales(
    scale_N: FloatArray,
    quantize: Callable[[FloatArray], tuple[NDArray[np.int8], NDArray[np.float64]]],
) -> tuple[NDArray[np.int8], FloatArray]:
    """Quantize a weight with several scales, and take for every column the best one.

    Args:
        scale_N: Shape (N,), float32, the smallest scales.
        quantize: Gives for scales the weight, shape (K, N), int8, and the error of every column,
            shape (N,), float64.

    Returns:
        The weight of shape (K, N), int8, and its scales of shape (N,), float32.
    """
    best_KN, least_N = quantize(scale_N)
    best_scale_N = scale_N.copy()
    for widening in _WIDENINGS[1:]:
        wider_N = (scale_N * widening).astype(np.float32)
        weight_KN, error_N = quantize(wider_N)
        is_better_N = error_N < least_N
        best_KN[:, is_better_N] = weight_KN[:, is_better_N]
        best_scale_N[is_better_N] = wider_N[is_better_N]
        least_N = np.minimum(least_N, error_N)
    return best_KN, best_scale_N


def check_pairs(model: bytes) -> int:
    """Check that the bound holds for every INT8 weight of a graph.

    Args:
        model: An ONNX model.

    Returns:
        The number of weights that were checked.

    Raises:
        ParityError: Pairs of a weight break the bound, or a weight is in no form that can be
            checked.
    """
    num_weights = 0
    for node in ir.from_proto(onnx.load_model_from_string(model)).graph:
        # A table that is looked up is multiplied by nothing in 8 bits.
        quantized = [x for x in node.inputs if x is not None and x.dtype == ir.DataType.INT8]
        if not quantized or node.op_type in ("Gather", "Cast"):
            continue
        weight_KN = tensor_of(quantized[0])
        name = f"quantization.pair_safe: got true, but in {node.name or node.op_type}"
        if weight_KN is None or weight_KN.ndim != 2:
            raise ParityError(f"{name} the INT8 weight is not a constant matrix")
        num_broken = count_broken_pairs(weight_KN)
        if num_broken:
            raise ParityError(
                f"{name} {num_broken} of {weight_KN.size // 2} pairs of weights have a sum beyond "
                f"{MAX_PAIR_SUM}; want none"
            )
        num_weights += 1
    return num_weights
