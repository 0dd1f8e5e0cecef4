"""A fused float graph becomes an INT8 one: QuantizeLinear and DequantizeLinear around weights.

What is quantized: the inputs and weights of the encoder's linear layers and the table of word
embeddings. LayerNorm, softmax, GELU, residuals, attention and the heads stay in float.
docs/artifact-format.md shows the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from bert_rt.errors import ConfigError
from bert_rt.support.progress import Progress
from compile.graph.linear import ATTENTION_OUTPUT, QKV, LinearLayer, find_linear_layers
from compile.graph.rules.constants import tensor_of
from compile.int8.calibrate import Observer
from compile.int8.search import LayerPlan, plan_layer, quantize_weight

__all__ = ["SCHEME", "QuantConfig", "plan_layers", "quantize"]

SCHEME = {
    "activations": "uint8, static, per_tensor, asymmetric",
    "weights": "int8, per_channel, symmetric",
    "word_embeddings": "int8, per_token, symmetric",
    "accumulator": "int32",
}


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """How a model is quantized.

    Attributes:
        num_samples: Windows of calibration text.
        max_rows: Rows of every layer's input that trials are judged on.
        num_outliers: Channels behind a GELU that may stay in float.
        num_held_out: Examples of the calibration file that INT8 is judged on, not calibrated.
        max_float_share: Part of the layers that may stay in float where INT8 loses too much.
        pair_safe: Whether sums of pairs of weights are bounded, so that INT8 products are exact on
            x86 processors without VNNI, too (compile.int8.pairs).
        seed: Of every random choice.
    """

    num_samples: int = 256
    max_rows: int = 4096
    num_outliers: int = 4
    num_held_out: int = 1000
    max_float_share: float = 0.5
    pair_safe: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range.
        """
        for name, low, high in (
            ("num_samples", 1, 2**20),
            ("max_rows", 1, 2**20),
            # No reader of the format takes more.
            ("num_outliers", 0, 16),
            ("num_held_out", 0, 2**20),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"QuantConfig.{name}: got {value}, want an integer from {low} to {high}"
                )
        if not 0.0 <= self.max_float_share <= 1.0:
            raise ConfigError(
                f"max_float_share: got {self.max_float_share}, want a number from 0 to 1"
            )


def plan_layers(
    layers: Sequence[LinearLayer],
    observers: Mapping[str, Observer],
    config: QuantConfig,
    progress: Progress,
) -> dict[str, LayerPlan]:
    """Find the quantization of every layer.

    Args:
        layers: The encoder's linear layers.
        observers: Layer name to what its input looks like.
        config: How to quantize.
        progress: Advanced at every layer.

    Returns:
        Layer name to plan.
    """
    plans = {}
    for layer in layers:
        # Only behind GELU have outliers been seen that smoothing leaves standing, and only there
        # the engines compute them.
        source = layer.x.producer()
        is_behind_gelu = source is not None and source.op_type == "Gelu"
        # OpenVINO 2026.4 folds the factors into a linear layer in front, whatever else reads that
        # one's result: here, behind projected embeddings, the residual connection.
        is_behind_linear = source is not None and source.op_type == "Add"
        plans[layer.name] = plan_layer(
            layer.name,
            layer.weight_KN,
            layer.bias_N,
            observers[layer.name],
            num_outliers=config.num_outliers if is_behind_gelu else 0,
            seed=config.seed,
            may_smooth=not is_behind_linear,
            pair_safe=config.pair_safe,
        )
        progress.advance(1)
    return plans


def quantize(model: ir.Model, plans: Mapping[str, LayerPlan]) -> ir.Model:
    """Make the INT8 graph.

    Args:
        model: The fused float graph; it is not changed.
        plans: Layer name to plan; layers without one stay in float.

    Returns:
        The quantized graph.
    """
    model = ir.from_proto(ir.to_proto(model))
    for layer in find_linear_layers(model):
        if layer.name in plans:
            plan, is_folded = _fold(plans[layer.name], plans)
            _quantize_layer(model.graph, layer, plan, is_folded=is_folded)
    _quantize_embeddings(model.graph)
    for step in (
        common_passes.RemoveUnusedNodesPass(),
        common_passes.TopologicalSortPass(),
        common_passes.CheckerPass(full_check=True),
    ):
        step(model)
    return model


def _fold(plan: LayerPlan, plans: Mapping[str, LayerPlan]) -> tuple[LayerPlan, bool]:
    """Move the smoothing of attention's result into the values it is made of.

    Attention mixes positions and never channels, so a factor on a channel of its result may as
    well stand on that channel of the values: in the columns of the merged QKV projection, whose
    scales take it at no loss.
    """
    if plan.name.endswith(ATTENTION_OUTPUT):
        return plan, plan.name.removesuffix(ATTENTION_OUTPUT) + QKV in plans
    output = plans.get(plan.name.removesuffix(QKV) + ATTENTION_OUTPUT)
    if not plan.name.endswith(QKV) or output is None:
        return plan, False
    # Folding the 0 of an outlier channel would leave nothing to compute in float.
    assert not len(output.outlier_channels), "quantize: outliers are behind GELU only"
    factor_N = np.ones(len(plan.bias_N), np.float32)
    factor_N[-len(output.smooth_K) :] = output.smooth_K
    return (
        replace(
            plan,
            weight_scale_N=plan.weight_scale_N * factor_N,
            bias_N=plan.bias_N * factor_N,
        ),
        False,
    )


class _Builder:
    """Makes nodes and constants of one layer in front of a node."""

    def __init__(self, graph: ir.Graph, before: ir.Node, prefix: str) -> None:
        self._graph = graph
        self._before = before
        self._prefix = prefix

    def constant(self, name: str, array: np.ndarray | np.generic) -> ir.Value:
        # Not ascontiguousarray, which would make a vector of a scalar.
        tensor = ir.tensor(np.array(array, order="C"), name=f"{self._prefix}.{name}")
        value = ir.Value(
            name=tensor.name,
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(array.shape),
        )
        self._graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        name: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Value:
        node = ir.node(op_type, inputs, dict(attributes or {}), name=f"{self._prefix}.{name}")
        node.outputs[0].name = f"{self._prefix}.{name}"
        self._graph.insert_before(self._before, node)
        return node.outputs[0]


def _quantize_layer(
    graph: ir.Graph, layer: LinearLayer, plan: LayerPlan, *, is_folded: bool
) -> None:
    """Put a layer's input and weight behind QuantizeLinear and DequantizeLinear."""
    build = _Builder(graph, layer.matmul, layer.name)
    x = layer.x
    smoothed = x
    if not is_folded and np.any(plan.smooth_K != 1):
        smoothed = build.node("Mul", "smoothed", [x, build.constant("smooth", plan.smooth_K)])
    scale = build.constant("x_scale", np.float32(plan.scale))
    zero_point = build.constant("x_zero_point", np.uint8(plan.zero_point))
    quantized = build.node("QuantizeLinear", "x_quantized", [smoothed, scale, zero_point])
    a = build.node("DequantizeLinear", "x_dequantized", [quantized, scale, zero_point])
    weight = build.node(
        "DequantizeLinear",
        "weight_dequantized",
        [
            build.constant("weight_quantized", plan.weight_KN),
            build.constant("weight_scale", plan.weight_scale_N),
            build.constant("weight_zero_point", np.zeros(len(plan.weight_scale_N), np.int8)),
        ],
        {"axis": 1},
    )
    layer.matmul.replace_input_with(0, a)
    layer.matmul.replace_input_with(1, weight)
    build = _Builder(graph, layer.add, layer.name)
    product = layer.matmul.outputs[0]
    if len(plan.outlier_channels):
        channels = build.constant("outlier_channels", plan.outlier_channels)
        gathered = build.node("Gather", "outliers", [x, channels], {"axis": -1})
        outlier_weight = build.constant("outlier_weight", plan.outlier_weight_RN)
        outliers = build.node("MatMul", "outlier_product", [gathered, outlier_weight])
        product = build.node("Add", "product", [product, outliers])
    layer.add.replace_input_with(0, product)
    layer.add.replace_input_with(1, build.constant("bias", plan.bias_N))


def _quantize_embeddings(graph: ir.Graph) -> None:
    """Store the word embeddings in INT8, one scale a token.

    A token's row is looked up, and then multiplied by its own scale: what frequent and rare
    tokens hold differs by more than one scale for the whole table could show.
    """
    input_ids = next(value for value in graph.inputs if value.name == "input_ids")
    gather = next(use.node for use in input_ids.uses() if use.node.op_type == "Gather")
    table_VD = tensor_of(gather.inputs[0])
    assert table_VD is not None, "quantize: the table of word embeddings is a constant"
    # Tokens stand where a weight has its output channels.
    quantized_DV, scale_V = quantize_weight(table_VD.T)
    build = _Builder(graph, gather, "embeddings.word_embeddings")
    quantized = build.constant("quantized", quantized_DV.T)
    row = build.node("Gather", "row_quantized", [quantized, input_ids], {"axis": 0})
    row = build.node("Cast", "row_cast", [row], {"to": ir.DataType.FLOAT.value})
    scale = build.constant("scale", scale_V[:, None])
    row_scale = build.node("Gather", "row_scale", [scale, input_ids], {"axis": 0})
    word = build.node("Mul", "row", [row, row_scale])
    ir.convenience.replace_all_uses_with(gather.outputs[0], word)
