"""Tests of compile.graph.rules.constants."""

from __future__ import annotations

import numpy as np
import pytest

from compile.graph.rules.constants import is_scalar, tensor_of
from tests.unit.compile.graphs import parse

_MODEL = parse(
    """g (float x) => (float[1] y) {
  half = Constant <value = float {0.5}> ()
  product = Mul(x, half)
  y = Add(product, vector)
}""",
    {"vector": np.array([0.25], np.float32)},
)
_VALUES = {value.name: value for node in _MODEL.graph for value in node.inputs if value is not None}


def test_tensor_of_constants() -> None:
    half, vector = tensor_of(_VALUES["half"]), tensor_of(_VALUES["vector"])
    assert half is not None and half.shape == () and half == 0.5
    assert vector is not None and vector.tolist() == [0.25]


@pytest.mark.parametrize("name", ["x", "product"])
def test_computed_values_have_no_tensor(name: str) -> None:
    assert tensor_of(_VALUES[name]) is None
    assert not is_scalar(_VALUES[name], 0.5)


def test_an_absent_input_has_no_tensor() -> None:
    assert tensor_of(None) is None
    assert not is_scalar(None, 0.0)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [(0.5, True), (0.5 * (1 + 1e-7), True), (0.5 * (1 + 1e-5), False), (-0.5, False)],
)
def test_is_scalar(wanted: float, holds: bool) -> None:
    assert is_scalar(_VALUES["half"], wanted) == holds
