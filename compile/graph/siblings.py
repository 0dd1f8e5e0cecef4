"""Sibling projections: linear layers that read the same values become one, and a Split.

One wide matrix product reads and quantizes its input once. compile.graph.rules.merge_qkv does the
same for the encoder, by a pattern of one result; here the results go different ways: a decoder's
keys and values into its cache, those of cross attention out of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from compile.graph.linear import LinearLayer, find_linear_layers

__all__ = ["merge_siblings"]

_ATTENTION_INPUTS = 3


def merge_siblings(model: ir.Model) -> int:
    """Merge the linear layers of a graph that read the same value, in place.

    Args:
        model: The graph. Parts of a merged layer stand in the order of the inputs of the Attention
            that they feed, perhaps through a cache; or of the graph's outputs that they are.

    Returns:
        Number of merged layers.
    """
    groups: dict[ir.Value, list[LinearLayer]] = {}
    for layer in find_linear_layers(model):
        groups.setdefault(layer.x, []).append(layer)
    outputs = {value: place for place, value in enumerate(model.graph.outputs)}
    wide = [group for group in groups.values() if len(group) > 1]
    for group in wide:
        _merge(model.graph, sorted(group, key=lambda layer: _place(layer, outputs)))
    return len(wide)


def _place(layer: LinearLayer, outputs: Mapping[ir.Value, int]) -> int:
    """Tell where a layer's result goes."""
    value = layer.add.outputs[0]
    if value in outputs:
        return outputs[value]
    for use in value.uses():
        uses = use.node.outputs[0].uses() if use.node.op_type == "Concat" else [use]
        for end in uses:
            if end.node.op_type == "Attention" and end.idx < _ATTENTION_INPUTS:
                return end.idx
    raise AssertionError(f"{layer.name}: sibling layers feed an Attention or are outputs")


def _merge(graph: ir.Graph, group: Sequence[LinearLayer]) -> None:
    """Put one layer and a Split in front of the first of the layers."""
    first = min((layer.matmul for layer in group), key=list(graph).index)
    name = f"{group[0].add.outputs[0].name}.merged"
    weight = _constant(graph, f"{name}.weight", [layer.weight_KN for layer in group], axis=1)
    bias = _constant(graph, f"{name}.bias", [layer.bias_N for layer in group], axis=0)
    product = ir.node("MatMul", [group[0].x, weight])
    added = ir.node("Add", [product.outputs[0], bias])
    split = ir.node(
        "Split",
        added.outputs,
        {"axis": -1, "num_outputs": len(group)},
        num_outputs=len(group),
    )
    graph.insert_before(first, [product, added, split])
    for layer, part in zip(group, split.outputs, strict=True):
        old = layer.add.outputs[0]
        part.shape, part.type = old.shape, old.type
        if old in graph.outputs:
            old.name, part.name = f"{old.name}.unmerged", old.name
        ir.convenience.replace_all_uses_with(old, part, replace_graph_outputs=True)
        graph.remove([layer.add, layer.matmul], safe=True)


def _constant(graph: ir.Graph, name: str, arrays: Sequence[np.ndarray], *, axis: int) -> ir.Value:
    tensor = ir.tensor(np.concatenate(arrays, axis=axis), name=name)
    value = ir.Value(
        name=name,
        const_value=tensor,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.numpy().shape),
    )
    graph.register_initializer(value)
    return value
