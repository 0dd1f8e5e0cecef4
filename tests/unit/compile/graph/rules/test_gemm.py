"""Tests of compile.graph.rules.gemm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from compile.graph.rules.gemm import GemmRule
from tests.tolerances import ONE_OP_FLOAT32_ATOL
from tests.unit.compile.graphs import assert_hit, assert_miss, normal, op_types, parse

_GRAPH = """gemm (float[B, 8] x) => (float[B, 3] y) {
  y = Gemm <alpha = 1.0, beta = 1.0, transB = 1> (x, w, b)
}"""


def make_graph(text: str = _GRAPH, **weights: np.ndarray) -> ir.Model:
    return parse(text, {"w": normal(3, 8), "b": normal(3, seed=1), **weights})


@pytest.mark.parametrize("attributes", ["alpha = 1.0, beta = 1.0, transB = 1", "transB = 1"])
def test_hit(attributes: str) -> None:
    model = make_graph(_GRAPH.replace("alpha = 1.0, beta = 1.0, transB = 1", attributes))
    feeds = [{"x": normal(batch_size, 8)} for batch_size in (1, 5)]
    assert_hit(model, GemmRule(), feeds, atol=ONE_OP_FLOAT32_ATOL)
    assert op_types(model) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize(
    ("old", "new"), [("alpha = 1.0", "alpha = 0.5"), ("beta = 1.0", "beta = 2.0")]
)
def test_near_miss_scaled(old: str, new: str) -> None:
    assert_miss(make_graph(_GRAPH.replace(old, new)), GemmRule())


def test_near_miss_weight_as_it_is() -> None:
    assert_miss(make_graph(_GRAPH.replace("transB = 1", "transB = 0"), w=normal(8, 3)), GemmRule())


def test_near_miss_transposed_input() -> None:
    text = _GRAPH.replace("float[B, 8] x", "float[8, B] x").replace(
        "transB = 1", "transA = 1, transB = 1"
    )
    assert_miss(make_graph(text), GemmRule())


@pytest.mark.parametrize("shape", [(1,), (1, 3), ()])
def test_near_miss_a_bias_that_is_broadcast(shape: tuple[int, ...]) -> None:
    assert_miss(make_graph(b=normal(*shape)), GemmRule())


def test_near_miss_computed_weight() -> None:
    text = _GRAPH.replace("float[B, 8] x)", "float[B, 8] x, float[3, 8] w)")
    model = parse(text, {"b": normal(3)})
    assert_miss(model, GemmRule())


@pytest.mark.parametrize("inputs", ["(x, w)", '(x, w, "")'])
def test_no_bias_becomes_zeros(inputs: str) -> None:
    # The exporter leaves a bias out that is all zeros.
    model = parse(_GRAPH.replace("(x, w, b)", inputs), {"w": normal(3, 8)})
    assert_hit(model, GemmRule(), [{"x": normal(5, 8)}], atol=ONE_OP_FLOAT32_ATOL)
    assert op_types(model) == {"MatMul": 1, "Add": 1}
