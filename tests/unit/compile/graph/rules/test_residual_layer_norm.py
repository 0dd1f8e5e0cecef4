"""Tests of compile.graph.rules.residual_layer_norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from compile.graph.rules.residual_layer_norm import ResidualLayerNormRule
from tests.tolerances import ONE_OP_FLOAT32_ATOL
from tests.unit.compile.graphs import assert_hit, assert_miss, normal, op_types, parse

_GRAPH = """norm (float[B, S, 6] x, float[B, S, 8] residual) => (float[B, S, 8] y) {
  product = MatMul(x, weight)
  projection = Add(product, bias)
  sum = Add(residual, projection)
  y = LayerNormalization <axis = -1, epsilon = 0.5> (sum, gamma, beta)
}"""


def make_weights(**changed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    weights: dict[str, NDArray[Any]] = {
        "weight": normal(6, 8),
        "bias": normal(8, seed=1),
        "gamma": normal(8, seed=2),
        "beta": normal(8, seed=3),
    }
    return weights | changed


def make_graph(text: str = _GRAPH) -> ir.Model:
    return parse(text, make_weights())


def make_feeds(batch: int, length: int) -> dict[str, NDArray[np.float32]]:
    return {"x": normal(batch, length, 6, seed=4), "residual": normal(batch, length, 8, seed=5)}


def replaced(old: str, new: str) -> str:
    assert old in _GRAPH
    return _GRAPH.replace(old, new)


def norm_of(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "LayerNormalization")


def test_hit() -> None:
    model = make_graph()
    feeds = [make_feeds(1, 1), make_feeds(3, 7)]
    assert_hit(model, ResidualLayerNormRule(), feeds, atol=ONE_OP_FLOAT32_ATOL)
    assert op_types(model) == {"MatMul": 1, "Add": 2, "LayerNormalization": 1}
    norm = norm_of(model)
    # The wrong epsilon would move nothing that a tolerance sees in a trained model.
    assert norm.attributes["epsilon"].as_float() == 0.5
    (total,) = (value.producer() for value in norm.inputs[:1] if value is not None)
    assert total is not None
    projection, residual = total.inputs
    assert residual is not None and residual.name == "residual"
    assert projection is not None and projection.producer() is not None


def test_hit_without_attributes() -> None:
    # Both have defaults in the standard: the last axis, 1e-5.
    model = make_graph(replaced(" <axis = -1, epsilon = 0.5>", ""))
    assert_hit(model, ResidualLayerNormRule(), [make_feeds(2, 3)], atol=ONE_OP_FLOAT32_ATOL)


def test_a_rewritten_graph_is_left_alone() -> None:
    model = make_graph()
    assert_hit(model, ResidualLayerNormRule(), [make_feeds(2, 3)], atol=ONE_OP_FLOAT32_ATOL)
    assert_miss(model, ResidualLayerNormRule())


def test_near_miss_norm_over_two_axes() -> None:
    weights = make_weights(gamma=normal(5, 8), beta=normal(5, 8))
    text = replaced("axis = -1", "axis = 1").replace("[B, S,", "[B, 5,")
    assert_miss(parse(text, weights), ResidualLayerNormRule())


def test_near_miss_residual_is_subtracted() -> None:
    text = replaced("Add(residual, projection)", "Sub(residual, projection)")
    assert_miss(make_graph(text), ResidualLayerNormRule())


def test_near_miss_no_projection() -> None:
    text = replaced("  product = MatMul(x, weight)\n", "").replace("Add(product", "Add(x")
    text = text.replace("float[B, S, 6] x", "float[B, S, 8] x")
    weights = make_weights()
    del weights["weight"]
    assert_miss(parse(text, weights), ResidualLayerNormRule())


@pytest.mark.parametrize(("name", "shape"), [("weight", "6, 8"), ("gamma", "8")])
def test_near_miss_computed_weight(name: str, shape: str) -> None:
    weights = make_weights()
    del weights[name]
    text = replaced("residual) =>", f"residual, float[{shape}] {name}) =>")
    assert_miss(parse(text, weights), ResidualLayerNormRule())


@pytest.mark.parametrize("name", ["product", "projection", "sum"])
def test_near_miss_second_consumer(name: str) -> None:
    text = replaced("=> (float[B, S, 8] y)", "=> (float[B, S, 8] y, float[B, S, 8] other)")
    text = text.replace("\n}", f"\n  other = Neg({name})\n}}")
    assert_miss(make_graph(text), ResidualLayerNormRule())


def test_near_miss_another_norm() -> None:
    text = replaced(
        "LayerNormalization <axis = -1, epsilon = 0.5> (sum, gamma, beta)", "Mul(sum, sum)"
    )
    weights = make_weights()
    del weights["gamma"], weights["beta"]
    assert_miss(parse(text, weights), ResidualLayerNormRule())
