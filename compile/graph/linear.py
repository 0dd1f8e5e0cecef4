"""The linear layers of a fused graph: where they are, what they hold, what they are called."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bert_rt.errors import UnsupportedOpError
from compile.graph.rules.constants import tensor_of

__all__ = [
    "ATTENTION_OUTPUT",
    "CROSS_OUTPUT",
    "CROSS_QUERY",
    "DECODER",
    "ENCODER",
    "FFN_INPUT",
    "FFN_OUTPUT",
    "QKV",
    "LinearLayer",
    "find_linear_layers",
    "name_linear_layers",
]

# The names of a layer's linear layers, behind "encoder.layer.<number>.".
QKV = "attention.self.qkv"
ATTENTION_OUTPUT = "attention.output.dense"
FFN_INPUT = "intermediate.dense"
FFN_OUTPUT = "output.dense"
# Those that only a decoder has, behind "decoder.layer.<number>.".
CROSS_QUERY = "crossattention.self.query"
CROSS_OUTPUT = "crossattention.output.dense"

ENCODER = "encoder."
DECODER = "decoder."
_PREFIX = "bert."
# What name_linear_layers puts behind a layer's name for its product.
_MATMUL = ".matmul"


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """One Add(MatMul(x, weight), bias) with constant weight and bias.

    Attributes:
        name: The checkpoint's name of the layer, without "bert." in front.
        matmul: The product's node.
        add: The bias's node, whose output is the layer's.
        weight_KN: Shape (K, N), float32, K inputs and N outputs.
        bias_N: Shape (N,), float32.
    """

    name: str
    matmul: ir.Node
    add: ir.Node
    weight_KN: NDArray[np.float32]
    bias_N: NDArray[np.float32]

    @property
    def x(self) -> ir.Value:
        """The layer's input, shape (B, S, K)."""
        value = self.matmul.inputs[0]
        assert value is not None, "linear: a MatMul has two inputs"
        return value

    @property
    def is_encoder(self) -> bool:
        """Whether the layer is inside the encoder."""
        return self.name.startswith(ENCODER)

    @property
    def may_be_int8(self) -> bool:
        """Whether the layer is inside the encoder or a decoder, where nearly all of the work is."""
        return self.name.startswith((ENCODER, DECODER))


def find_linear_layers(
    model: ir.Model, head_layers: Sequence[str] = (), *, part: str = ENCODER
) -> list[LinearLayer]:
    """Find the linear layers.

    Those of the encoder, or a decoder, are named by their place in the graph. The exporter forgets
    the names of weights, and it merges equal tensors, such as the zero biases of a fresh model, so
    that one bias's name may stand for many layers. Others have the names that name_linear_layers
    gave, and before that those of their biases.

    Args:
        model: A fused graph.
        head_layers: Names of the last layers, those of the head, of a graph without names.
        part: ENCODER or DECODER: what names of layers begin with, in a graph without names.

    Returns:
        The layers in the order of the graph.
    """
    layers = []
    for matmul in model.graph:
        if matmul.op_type != "MatMul":
            continue
        weight = tensor_of(matmul.inputs[1])
        uses = list(matmul.outputs[0].uses())
        if weight is None or weight.ndim != 2 or len(uses) != 1 or uses[0].node.op_type != "Add":
            continue
        add = uses[0].node
        bias_value = add.inputs[1 - uses[0].idx]
        bias = tensor_of(bias_value)
        if bias_value is None or bias is None or bias.shape != weight.shape[1:]:
            continue
        bias_name = str(bias_value.name).removesuffix(".bias").removeprefix(_PREFIX)
        layers.append(LinearLayer(bias_name, matmul, add, weight, bias))
    first = len(layers) - len(head_layers)
    return [
        dataclasses.replace(layer, name=head_layers[index - first] if index >= first else name)
        for index, (layer, name) in enumerate(zip(layers, _names(layers, part), strict=True))
    ]


def _names(layers: Sequence[LinearLayer], part: str) -> Iterator[str]:
    """Yield names: those given before, else by the place in a layer, else the bias's."""
    seen: Counter[str] = Counter()
    for layer in layers:
        place = _place_in_layer(layer.matmul, layer.add)
        if layer.matmul.name and layer.matmul.name.endswith(_MATMUL):
            yield layer.matmul.name.removesuffix(_MATMUL)
        elif place is None:
            yield layer.name
        else:
            yield f"{part}layer.{seen[place]}.{place}"
            seen[place] += 1


def name_linear_layers(
    model: ir.Model, head_layers: Sequence[str] = (), *, part: str = ENCODER
) -> None:
    """Give the nodes and tensors of linear layers their names.

    Profilers of engines show the nodes' names.

    Args:
        model: A fused graph; it is renamed in place.
        head_layers: Names of the last layers, those of the head, in the graph's order; the others
            are called what find_linear_layers calls them.
        part: As in find_linear_layers.

    Raises:
        UnsupportedOpError: There are fewer layers than the head has.
    """
    layers = find_linear_layers(model, head_layers, part=part)
    if len(layers) < len(head_layers):
        got = [layer.name for layer in layers]
        raise UnsupportedOpError(f"head: got the linear layers {got}, want {list(head_layers)}")
    for layer in layers:
        layer.matmul.name = f"{layer.name}{_MATMUL}"
        layer.add.name = f"{layer.name}.add"
        prefix = _PREFIX if layer.may_be_int8 else ""
        for node, kind in ((layer.matmul, "weight"), (layer.add, "bias")):
            for value in node.inputs:
                if value is not None and value.is_initializer() and len(value.uses()) == 1:
                    value.name = f"{prefix}{layer.name}.{kind}"


def _place_in_layer(matmul: ir.Node, add: ir.Node) -> str | None:
    """Tell which of a layer's linear layers this is; None for one of a head."""
    source = matmul.inputs[0].producer() if matmul.inputs[0] is not None else None
    users = [use.node for use in add.outputs[0].uses()]
    if source is not None and source.op_type == "Attention":
        keys = source.inputs[1]
        # Those of cross attention come into the graph from outside.
        is_cross = keys is not None and keys.is_graph_input()
        return CROSS_OUTPUT if is_cross else ATTENTION_OUTPUT
    if source is not None and source.op_type == "Gelu":
        return FFN_OUTPUT
    if any(user.op_type == "Gelu" for user in users):
        return FFN_INPUT
    parts = [part for user in users if user.op_type == "Split" for part in user.outputs]
    if any(use.node.op_type == "Attention" for part in parts for use in part.uses()):
        return QKV
    if any(user.op_type == "Attention" for user in users):
        return CROSS_QUERY
    return None
