"""Tests of compile.graph.rules.gelu."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from compile.graph.rules.gelu import GeluRule
from tests.tolerances import ONE_OP_FLOAT32_ATOL
from tests.unit.compile.graphs import assert_hit, assert_miss, normal, op_types, parse

_GRAPH = """gelu (float[B, S, 8] x) => (float[B, S, 8] y) {
  scaled = Div(x, divisor)
  erf = Erf(scaled)
  shifted = Add(erf, one)
  halved = Mul(half, shifted)
  y = Mul(x, halved)
}"""
_CONSTANTS = {"divisor": 2**0.5, "one": 1.0, "half": 0.5}


def make_graph(text: str = _GRAPH, **constants: float) -> ir.Model:
    values = _CONSTANTS | constants
    return parse(text, {name: np.array(value, np.float32) for name, value in values.items()})


def test_hit() -> None:
    model = make_graph()
    # Where erf is flat, where it is steep, and both zeros.
    x = np.concatenate([normal(2, 3, 8, scale=3.0), np.zeros((2, 1, 8), np.float32)], axis=1)
    x[0, 0] = (-30, -5, -1e-3, -0.0, 1e-3, 5, 30, 1e4)
    assert_hit(model, GeluRule(), [{"x": x}], atol=ONE_OP_FLOAT32_ATOL)
    assert op_types(model) == {"Gelu": 1}
    assert next(iter(model.graph)).attributes["approximate"].as_string() == "none"


def test_constants_may_be_vectors_of_one() -> None:
    values = {name: np.array([value], np.float32) for name, value in _CONSTANTS.items()}
    assert_hit(parse(_GRAPH, values), GeluRule(), [{"x": normal(1, 2, 8)}], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("divisor", 1.4), ("divisor", 2.0), ("one", 0.999), ("one", -1.0), ("half", 1.0)],
)
def test_near_miss_wrong_constant(name: str, value: float) -> None:
    assert_miss(make_graph(**{name: value}), GeluRule())


def test_near_miss_constants_by_channel() -> None:
    values = {name: np.array(value, np.float32) for name, value in _CONSTANTS.items()}
    values["half"] = np.full(8, 0.5, np.float32)
    assert_miss(parse(_GRAPH, values), GeluRule())


def test_near_miss_computed_constant() -> None:
    text = _GRAPH.replace("float[B, S, 8] x)", "float[B, S, 8] x, float half)")
    values = {name: np.array(value, np.float32) for name, value in _CONSTANTS.items()}
    del values["half"]
    assert_miss(parse(text, values), GeluRule())


def test_near_miss_another_function() -> None:
    assert_miss(make_graph(_GRAPH.replace("Erf", "Tanh")), GeluRule())


def test_near_miss_another_input() -> None:
    text = _GRAPH.replace("8] x)", "8] x, float[B, S, 8] z)").replace("Mul(x, h", "Mul(z, h")
    assert_miss(make_graph(text), GeluRule())


@pytest.mark.parametrize("name", ["scaled", "erf", "shifted", "halved"])
def test_near_miss_second_consumer(name: str) -> None:
    text = _GRAPH.replace("8] y) {", "8] y, float[B, S, 8] other) {")
    text = text.replace("\n}", f"\n  other = Neg({name})\n}}")
    assert_miss(make_graph(text), GeluRule())


def test_near_miss_intermediate_value_is_an_output() -> None:
    text = _GRAPH.replace("8] y) {", "8] y, float[B, S, 8] erf) {")
    assert_miss(make_graph(text), GeluRule())
