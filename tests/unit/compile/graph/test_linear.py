"""Tests of compile.graph.linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compile.graph.linear import find_linear_layers, name_linear_layers
from tests.unit.compile import tiny
from tests.unit.compile.graphs import normal, parse

_ENCODER = list(tiny.ENCODER_LINEARS)


def test_names_and_order() -> None:
    layers = find_linear_layers(tiny.fused())
    assert [layer.name for layer in layers] == [*_ENCODER, "qa_outputs"]
    assert [layer.is_encoder for layer in layers] == [True] * len(_ENCODER) + [False]


def test_weights_are_the_checkpoints() -> None:
    state = {key: value.numpy() for key, value in tiny.loaded_model().model.state_dict().items()}
    for layer in find_linear_layers(tiny.fused()):
        prefix = "bert." if layer.is_encoder else ""
        stem = prefix + layer.name
        keys = [stem]
        if stem.endswith("qkv"):
            keys = [stem.replace("qkv", name) for name in ("query", "key", "value")]
        weight = np.concatenate([state[f"{key}.weight"] for key in keys]).T
        bias = np.concatenate([state[f"{key}.bias"] for key in keys])
        np.testing.assert_array_equal(layer.weight_KN, weight)
        np.testing.assert_array_equal(layer.bias_N, bias)


def test_x_is_the_layers_input() -> None:
    sources = {layer.name: layer.x.producer() for layer in find_linear_layers(tiny.fused())}
    kinds = {name: node.op_type for name, node in sources.items() if node is not None}
    for name in _ENCODER:
        if name.endswith(".attention.output.dense"):
            assert kinds[name] == "Attention"
        elif name.endswith(".output.dense"):
            assert kinds[name] == "Gelu"
        else:
            assert kinds[name] == "LayerNormalization"


def test_nodes_and_tensors_carry_the_layers_name() -> None:
    model = tiny.fused()
    for layer in find_linear_layers(model):
        prefix = "bert." if layer.is_encoder else ""
        assert layer.matmul.name == f"{layer.name}.matmul"
        assert layer.add.name == f"{layer.name}.add"
        assert layer.matmul.inputs[1] is model.graph.initializers[f"{prefix}{layer.name}.weight"]
    assert "encoder.layer.1.output.dense.matmul" in {node.name for node in model.graph}


def test_finding_changes_nothing() -> None:
    model = tiny.fused()
    before = tiny.to_bytes(model)
    find_linear_layers(model)
    assert tiny.to_bytes(model) == before
    name_linear_layers(model)
    assert tiny.to_bytes(model) == before


def test_names_do_not_depend_on_tensor_names() -> None:
    model = tiny.fused()
    for index, value in enumerate(list(model.graph.initializers.values())):
        value.name = f"t{index}"
    found = [layer.name for layer in find_linear_layers(model)]
    assert found[:-1] == _ENCODER


_LINEAR = """linear (float[B, S, 4] x) => (float[B, S, 3] y) {
  product = MatMul(x, weight)
  y = Add(product, bias)
}"""


def find(text: str = _LINEAR, **changed: NDArray[Any]) -> list[str]:
    weights: dict[str, NDArray[Any]] = {"weight": normal(4, 3), "bias": normal(3)}
    return [layer.name for layer in find_linear_layers(parse(text, weights | changed))]


def test_bias_first() -> None:
    assert find() == ["bias"]
    assert find(_LINEAR.replace("Add(product, bias)", "Add(bias, product)")) == ["bias"]


@pytest.mark.parametrize(
    "text",
    [
        _LINEAR.replace("y = Add(product, bias)", "y = Mul(product, bias)"),
        _LINEAR.replace("}", "  z = Neg(product)\n}"),
        _LINEAR.replace("Add(product, bias)", "Add(product, product)"),
    ],
    ids=["no sum", "second consumer", "sum with itself"],
)
def test_no_linear_layer(text: str) -> None:
    assert find(text) == []


def test_no_linear_layer_by_shape() -> None:
    assert find(bias=normal(1)) == []
    assert find(weight=normal(1, 4, 3)) == []
