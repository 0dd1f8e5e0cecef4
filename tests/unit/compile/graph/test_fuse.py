"""Tests of compile.graph.fuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from bert_rt.errors import UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.model.config import BERT_SIZES
from bert_rt.tasks.checkpoints import build_model
from compile.graph.fuse import OPSET, check_counts, expected_counts, fuse
from compile.graph.linear import find_linear_layers
from compile.graph.trace import trace
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny
from tests.unit.compile.graphs import op_types

COUNTS = {"gelu": 2, "attention": 2, "merged_qkv": 2, "residual_layer_norm": 4}


def test_counts() -> None:
    assert fuse(tiny.traced(), tiny.CONFIG) == COUNTS


def test_expected_counts() -> None:
    assert expected_counts(tiny.CONFIG) == COUNTS
    assert expected_counts(BERT_SIZES["large"]) == {
        "gelu": 24,
        "attention": 24,
        "merged_qkv": 24,
        "residual_layer_norm": 48,
    }


def test_the_fused_graph_is_the_specified_one() -> None:
    model = tiny.fused()
    layers = tiny.NUM_LAYERS
    counts = op_types(model)
    wanted = {
        "MatMul": 4 * layers + 1,
        # A bias for every product, a residual for two of a layer, two for the embeddings.
        "Add": 4 * layers + 1 + 2 * layers + 2,
        "LayerNormalization": 2 * layers + 1,
        "Gelu": layers,
        "Split": layers,
        "Attention": layers,
        "Expand": 1,
    }
    assert {name: counts[name] for name in wanted} == wanted
    lost = {"Softmax", "Erf", "Div", "Transpose", "Reshape", "Identity", "Pow", "Sqrt"}
    assert not counts.keys() & lost
    masks = {node.inputs[3] for node in model.graph if node.op_type == "Attention"}
    assert len(masks) == 1


def test_standard_operators_of_one_opset() -> None:
    model = tiny.fused()
    assert (model.opset_imports, model.ir_version, OPSET) == ({"": 23}, 10, 23)
    assert {node.domain for node in model.graph} == {""}
    assert not model.functions
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_the_tracer_leaves_no_notes() -> None:
    # Its stack traces name files of the machine that compiled.
    assert b"model.py" in tiny.to_bytes(tiny.traced())
    assert b"model.py" not in tiny.to_bytes(tiny.fused())
    assert not tiny.fused().metadata_props
    assert all(not node.metadata_props and not node.doc_string for node in tiny.fused().graph)


def test_equal_bytes_every_time() -> None:
    one, other = tiny.traced(), tiny.traced()
    fuse(one, tiny.CONFIG)
    fuse(other, tiny.CONFIG)
    assert tiny.to_bytes(one) == tiny.to_bytes(other)


def _value(model: ir.Model, op_type: str) -> ir.Value:
    """Return what the graph's first node of a kind gives."""
    return next(node.outputs[0] for node in model.graph if node.op_type == op_type)


def _residual_sum(model: ir.Model) -> ir.Value:
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    value = norms[1].inputs[0]  # The first is the embeddings'.
    assert value is not None
    return value


def _query(model: ir.Model) -> ir.Value:
    producer = _value(model, "MatMul")
    return next(iter(producer.uses())).node.outputs[0]


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda model: _value(model, "Erf"), "gelu: got 1, want 2"),
        # Without its Attention, a QKV projection is not one, either.
        (
            lambda model: _value(model, "Softmax"),
            "attention: got 1, want 2; merged_qkv: got 1, want 2",
        ),
        (_query, "merged_qkv: got 1, want 2"),
        (_residual_sum, "residual_layer_norm: got 3, want 4"),
    ],
    ids=["gelu", "attention", "merged_qkv", "residual_layer_norm"],
)
def test_a_lost_fusion_fails_the_compile(find: Any, message: str) -> None:
    model = tiny.traced()
    # As an output of the graph, a value must not disappear into a fused operator.
    model.graph.outputs.append(find(model))
    with pytest.raises(UnsupportedOpError, match=f"^fusions: {message}$"):
        fuse(model, tiny.CONFIG)


def test_another_architecture_fails_the_compile() -> None:
    heads = dataclasses.replace(tiny.CONFIG, num_attention_heads=8)
    with pytest.raises(UnsupportedOpError, match="attention: got 0, want 2"):
        fuse(tiny.traced(), heads)
    layers = dataclasses.replace(tiny.CONFIG, num_hidden_layers=3)
    with pytest.raises(UnsupportedOpError, match="gelu: got 2, want 3"):
        fuse(tiny.traced(), layers)


def test_a_rule_that_is_not_counted() -> None:
    with pytest.raises(UnsupportedOpError, match="gelu: got 0, want 2"):
        check_counts({name: n for name, n in COUNTS.items() if name != "gelu"}, COUNTS)


def test_more_fusions_than_layers_fail_too() -> None:
    with pytest.raises(UnsupportedOpError, match="gelu: got 3, want 2"):
        check_counts(COUNTS | {"gelu": 3}, COUNTS)


def test_a_fresh_model() -> None:
    # All its biases are zeros, which the exporter stores once for all layers.
    model: Any = build_model("question-answering", tiny.CONFIG).eval()
    graph = trace(LoadedModel(model, tiny.CONFIG, {}, (), ()))
    assert fuse(graph, tiny.CONFIG) == COUNTS
    names = [layer.name for layer in find_linear_layers(graph)]
    assert len(set(names)) == 4 * tiny.NUM_LAYERS + 1
    feeds = tiny.make_feeds(3, 20)
    got = tiny.ort_logits(tiny.to_bytes(graph), feeds)
    assert abs(got - tiny.torch_logits(model, feeds)).max() < FLOAT32_ATOL
