"""Attention's inputs are moved and scaled so that INT8 holds them better; the function stays.

What attention computes does not change, in exact arithmetic, where
- a constant is added to a channel of all keys: it adds the same to every score of a query, and
  the softmax looks at differences only;
- a channel of the queries is multiplied and the same channel of the keys divided by a factor;
- a constant is added to a channel of all values: weights sum to 1, so it is added to the result,
  and the bias of the next layer takes it back.

So channels of keys and values are centred on 0, and the width of a query's and a key's channel is
shared out between both: engines that quantize attention from each sequence alone (the native one)
get ranges without a waste, and so does the INT8 input of the layer behind attention. All of it goes
into weights and biases that are there anyway, at no cost when the model runs.

Shapes: R rows, D hidden size, H head width.

Source: Xiao et al. 2023 (SmoothQuant), arXiv:2211.10438, section 4 (scaling); Wei et al. 2023
(Outlier Suppression+), arXiv:2304.09145, section 4.1 (shifting); Zhang et al. 2024 (SageAttention),
arXiv:2410.02367, section 4.2 (keys without their mean).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bert_rt.types import FloatArray
from compile.graph.linear import ATTENTION_OUTPUT, QKV, LinearLayer, find_linear_layers
from compile.int8.calibrate import Observer

__all__ = ["balance_attention", "replace_constants"]

# How much of the keys' width goes to the queries; 0 leaves both, 1 gives equal channels of keys.
_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# Scores of this many queries and keys decide on the strength.
_SAMPLE_ROWS = 512
_SMALLEST = np.float32(1e-5)
_LEVELS = 127


def balance_attention(
    model: ir.Model, observers: Mapping[str, Observer], *, num_heads: int
) -> None:
    """Rewrite the weights and biases around every attention block.

    Args:
        model: The fused float graph; its linear layers are changed in place.
        observers: Layer name to what its input looks like. Those behind attention are changed to
            what they would have seen.
        num_heads: Attention heads of the model.
    """
    layers = {layer.name: layer for layer in find_linear_layers(model)}
    for name, qkv in layers.items():
        if not name.endswith(QKV):
            continue
        output = layers[name.removesuffix(QKV) + ATTENTION_OUTPUT]
        weight_DN, bias_N = qkv.weight_KN.copy(), qkv.bias_N.copy()
        x_RD = observers[name].rows_RK
        width = weight_DN.shape[1] // 3
        head_dim = width // num_heads
        keys = slice(width, 2 * width)
        bias_N[keys] -= _middle(x_RD @ weight_DN[:, keys] + bias_N[keys])
        for start in range(0, width, head_dim):
            q, k = slice(start, start + head_dim), slice(width + start, width + start + head_dim)
            factor_H = _query_factors(
                x_RD @ weight_DN[:, q] + bias_N[q], x_RD @ weight_DN[:, k] + bias_N[k]
            )
            weight_DN[:, q], bias_N[q] = weight_DN[:, q] * factor_H, bias_N[q] * factor_H
            weight_DN[:, k], bias_N[k] = weight_DN[:, k] / factor_H, bias_N[k] / factor_H
        observer = observers[output.name]
        centre_D = _middle(np.stack([observer.low_K, observer.high_K]))
        bias_N[2 * width :] -= centre_D
        observer.shift(-centre_D)
        replace_constants(model, qkv, "balanced", weight_DN, bias_N)
        replace_constants(
            model, output, "balanced", None, output.bias_N + centre_D @ output.weight_KN
        )


def _middle(x_RD: FloatArray) -> FloatArray:
    middle_D: FloatArray = (x_RD.max(0) + x_RD.min(0)) / 2
    return middle_D


def _query_factors(q_RH: FloatArray, k_RH: FloatArray) -> FloatArray:
    """Find factors of a head's query channels with the least error of quantized scores."""
    q_size_H = np.maximum(np.abs(q_RH).max(0), _SMALLEST)
    k_size_H = np.maximum(np.abs(k_RH).max(0), _SMALLEST)
    # Different rows: a token's own key is unlike those of the others.
    queries, keys = q_RH[:_SAMPLE_ROWS], k_RH[-_SAMPLE_ROWS:]
    log_ratio_H = np.log(k_size_H / q_size_H)
    log_ratio_H -= log_ratio_H.mean()
    found: list[tuple[float, FloatArray]] = []
    for strength in _STRENGTHS:
        factor_H = np.exp(strength * log_ratio_H).astype(np.float32)
        found.append((_score_error(queries * factor_H, keys / factor_H), factor_H))
    return min(found, key=lambda pair: pair[0])[1]


def _score_error(q_RH: FloatArray, k_RH: FloatArray) -> float:
    """Return the squared error of scores that INT8 makes: a scale a query, and one for all keys."""
    q_scale_R1 = np.maximum(np.abs(q_RH).max(1, keepdims=True), _SMALLEST) / _LEVELS
    k_scale = max(float(np.abs(k_RH).max()), float(_SMALLEST)) / _LEVELS
    got = (np.rint(q_RH / q_scale_R1) * q_scale_R1) @ (np.rint(k_RH / k_scale) * k_scale).T
    error = got - q_RH @ k_RH.T
    # What all scores of a query have in common does not reach the softmax's result.
    return float(np.square(error - error.mean(1, keepdims=True), dtype=np.float64).sum())


def replace_constants(
    model: ir.Model,
    layer: LinearLayer,
    what: str,
    weight_KN: FloatArray | None,
    bias_N: FloatArray | None,
) -> None:
    """Give a layer a new weight and a new bias, where there are any.

    Args:
        model: The graph; it is changed in place.
        layer: The layer, as the graph has it.
        what: What is done to it, for the names of the new constants.
        weight_KN: Shape (K, N), float32; None leaves the weight.
        bias_N: Shape (N,), float32; None leaves the bias.
    """
    bias_index = 1 if layer.add.inputs[0] is layer.matmul.outputs[0] else 0
    changes = [(layer.add, bias_index, "bias", bias_N), (layer.matmul, 1, "weight", weight_KN)]
    for node, index, kind, array in changes:
        if array is None:
            continue
        # A new value: equal tensors of several layers may have been merged into one.
        tensor = ir.tensor(array.astype(np.float32), name=f"{layer.name}.{what}_{kind}")
        value = ir.Value(
            name=tensor.name,
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(array.shape),
        )
        model.graph.register_initializer(value)
        node.replace_input_with(index, value)
