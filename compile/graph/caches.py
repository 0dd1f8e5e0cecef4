"""A decoder's caches: what self-attention keeps stands head by head, as Attention takes it.

In a trace keys and values of the tokens so far are joined with those of the new ones, heads side
by side, and every step lays all of them out anew, head by head. Attention has inputs for a past and
outputs for what is to be kept, both head by head: so a step lays out its own tokens.

Shapes: B sources, P tokens so far, N heads, H head dim, D = N * H.

Source: ONNX operator Attention-23, inputs past_key and past_value.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bert_rt.errors import UnsupportedOpError

__all__ = ["fuse_past"]


@dataclass(frozen=True, slots=True)
class _Joined:
    """Keys or values of an Attention: those of a past, and those of more tokens."""

    past: ir.Value
    new: ir.Value
    joined: ir.Value


def fuse_past(model: ir.Model) -> int:
    """Let Attention join the past with the new tokens, in place.

    Args:
        model: A fused graph. Inputs of shape (B, P, D) become (B, N, P, H), and the outputs that
            join them with tokens likewise.

    Returns:
        Number of attentions with a past.

    Raises:
        UnsupportedOpError: Something else reads a past.
    """
    count = 0
    for node in list(model.graph):
        if node.op_type == "Attention":
            keys, values = (_find_joined(value) for value in node.inputs[1:3])
            if keys is not None and values is not None:
                _take_past(model.graph, node, (keys, values))
                count += 1
    return count


def _find_joined(joined: ir.Value | None) -> _Joined | None:
    concat = None if joined is None else joined.producer()
    if concat is None or concat.op_type != "Concat" or len(concat.inputs) != 2:
        return None
    past, new = concat.inputs
    if past is None or not past.is_graph_input():
        return None
    assert joined is not None and new is not None, "they have been looked at"
    return _Joined(past, new, joined)


def _take_past(graph: ir.Graph, node: ir.Node, parts: tuple[_Joined, _Joined]) -> None:
    num_heads = node.attributes["kv_num_heads"].as_int()
    for part in parts:
        for use in part.past.uses():
            if use.node is not part.joined.producer():
                _read_size(use.node)
        for value in (part.past, part.joined):
            value.shape = _by_head(value, num_heads)
    attended = ir.node(
        "Attention",
        [
            node.inputs[0],
            *(part.new for part in parts),
            node.inputs[3],
            *(part.past for part in parts),
        ],
        {name: attribute.value for name, attribute in node.attributes.items()},
        num_outputs=3,
    )
    old = [node.outputs[0], *(part.joined for part in parts)]
    for before, after in zip(old, attended.outputs, strict=True):
        after.shape, after.type = before.shape, before.type
        before.name, after.name = f"{before.name}.joined", before.name
    graph.insert_before(node, [attended])
    ir.convenience.replace_all_uses_with(old, attended.outputs, replace_graph_outputs=True)
    concats = [part.joined.producer() for part in parts]
    graph.remove([node, *(concat for concat in concats if concat is not None)], safe=True)


def _by_head(value: ir.Value, num_heads: int) -> ir.Shape:
    """Return (B, N, P, H) of a value's (B, P, D)."""
    assert value.shape is not None, "the exporter says the shape of every value"
    sources, length, width = value.shape
    assert isinstance(width, int), "D is the model's"
    return ir.Shape([sources, num_heads, length, width // num_heads])


def _read_size(node: ir.Node) -> None:
    """Let a node that reads how many sources a past has, or tokens, read it where it stands now."""
    bounds = [
        node.attributes[name].as_int() for name in ("start", "end") if name in node.attributes
    ]
    if node.op_type != "Shape" or bounds not in ([0, 1], [1, 2]):
        raise UnsupportedOpError(
            f"{node.op_type}: got a past as its input, want only its sizes to be read"
        )
    if bounds == [1, 2]:
        for name, axis in (("start", 2), ("end", 3)):
            node.attributes[name] = ir.AttrInt64(name, axis)
