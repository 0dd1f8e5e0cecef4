"""Tests of compile.graph.rules.attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from compile.graph.rules.attention import AttentionRule
from tests.tolerances import ONE_OP_FLOAT32_ATOL
from tests.unit.compile.graphs import assert_hit, assert_miss, normal, op_types, parse

# Two heads of width 4; batch and length stay open, as in a trace.
_GRAPH = """attention (float[B, S, 8] q, float[B, S, 8] k, float[B, S, 8] v, float[B, 1, 1, S] mask)
=> (float[B, S, 8] y) {
  b = Shape <start = 0, end = 1> (q)
  s = Shape <start = 1, end = 2> (q)
  split = Concat <axis = 0> (b, s, two, four)
  merged = Concat <axis = 0> (b, s, eight)
  q4 = Reshape(q, split)
  k4 = Reshape(k, split)
  v4 = Reshape(v, split)
  qt = Transpose <perm = [0, 2, 1, 3]> (q4)
  kt = Transpose <perm = [0, 2, 3, 1]> (k4)
  vt = Transpose <perm = [0, 2, 1, 3]> (v4)
  scores = MatMul(qt, kt)
  scaled = Mul(scores, scale)
  masked = Add(scaled, mask)
  probabilities = Softmax <axis = -1> (masked)
  context = MatMul(probabilities, vt)
  rows = Transpose <perm = [0, 2, 1, 3]> (context)
  y = Reshape(rows, merged)
}"""
_CONSTANTS: dict[str, NDArray[Any]] = {
    "two": np.array([2], np.int64),
    "four": np.array([4], np.int64),
    "eight": np.array([8], np.int64),
    "scale": np.array(0.5, np.float32),
}
_RULE = AttentionRule(2, 4)


def make_graph(text: str = _GRAPH, **constants: NDArray[Any]) -> ir.Model:
    return parse(text, _CONSTANTS | constants)


def make_feeds(batch: int, length: int) -> dict[str, NDArray[np.float32]]:
    feeds = {name: normal(batch, length, 8, seed=seed) for seed, name in enumerate("qkv")}
    mask = np.zeros((batch, 1, 1, length), np.float32)
    mask[1:, ..., length // 2 :] = -10000.0
    return feeds | {"mask": mask}


def replaced(old: str, new: str) -> str:
    assert old in _GRAPH
    return _GRAPH.replace(old, new)


def test_hit() -> None:
    model = make_graph()
    feeds = [make_feeds(1, 1), make_feeds(2, 5), make_feeds(3, 64)]
    assert_hit(model, _RULE, feeds, atol=ONE_OP_FLOAT32_ATOL)
    counts = op_types(model)
    assert counts["Attention"] == 1
    assert not counts.keys() & {"MatMul", "Softmax", "Transpose", "Reshape", "Mul", "Add"}
    node = next(node for node in model.graph if node.op_type == "Attention")
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    assert attributes == {"q_num_heads": 2, "kv_num_heads": 2, "scale": 0.5}


def test_shapes_may_be_constants() -> None:
    text = replaced("  split = Concat <axis = 0> (b, s, two, four)\n", "")
    text = text.replace("  merged = Concat <axis = 0> (b, s, eight)\n", "")
    model = make_graph(
        text, split=np.array([0, 0, 2, 4], np.int64), merged=np.array([0, 0, 8], np.int64)
    )
    assert_hit(model, _RULE, [make_feeds(2, 5)], atol=ONE_OP_FLOAT32_ATOL)


def test_a_mask_with_a_row_for_every_query_stays_as_it_is() -> None:
    model = make_graph(replaced("float[B, 1, 1, S] mask", "float[B, 1, S, S] mask"))
    feeds = make_feeds(2, 5)
    feeds["mask"] = np.where(np.tri(5) > 0, 0.0, -10000.0).astype(np.float32)[None, None]
    feeds["mask"] = np.repeat(feeds["mask"], 2, axis=0)
    assert_hit(model, _RULE, [feeds], atol=ONE_OP_FLOAT32_ATOL)
    node = next(node for node in model.graph if node.op_type == "Attention")
    assert [value.name for value in node.inputs if value is not None] == ["q", "k", "v", "mask"]


def test_inputs_keep_their_places() -> None:
    # Queries, keys and values look alike to everything but the pattern.
    model = make_graph()
    assert_hit(model, _RULE, [make_feeds(2, 3)], atol=ONE_OP_FLOAT32_ATOL)
    node = next(node for node in model.graph if node.op_type == "Attention")
    assert [value.name for value in node.inputs[:3] if value is not None] == ["q", "k", "v"]


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.35355338, -0.5])
def test_near_miss_wrong_scale(scale: float) -> None:
    assert_miss(make_graph(scale=np.array(scale, np.float32)), _RULE)


def test_near_miss_scale_by_head() -> None:
    assert_miss(make_graph(scale=np.full((2, 1, 1), 0.5, np.float32)), _RULE)


@pytest.mark.parametrize("rule", [AttentionRule(4, 2), AttentionRule(2, 8), AttentionRule(1, 8)])
def test_near_miss_other_heads_than_the_model(rule: AttentionRule) -> None:
    assert_miss(make_graph(), rule)


def test_near_miss_heads_of_another_width() -> None:
    # Four heads of width 2, scaled as if they were two of width 4.
    heads = {"two": np.array([4], np.int64), "four": np.array([2], np.int64)}
    assert_miss(make_graph(**heads), _RULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Each is a valid graph as long as S is open.
        ("kt = Transpose <perm = [0, 2, 3, 1]>", "kt = Transpose <perm = [0, 2, 1, 3]>"),
        ("qt = Transpose <perm = [0, 2, 1, 3]>", "qt = Transpose <perm = [2, 0, 1, 3]>"),
        ("rows = Transpose <perm = [0, 2, 1, 3]>", "rows = Transpose <perm = [0, 1, 2, 3]>"),
    ],
)
def test_near_miss_wrong_perm(old: str, new: str) -> None:
    assert_miss(make_graph(replaced(old, new)), _RULE)


def test_near_miss_softmax_over_queries() -> None:
    assert_miss(make_graph(replaced("Softmax <axis = -1>", "Softmax <axis = 2>")), _RULE)


def test_near_miss_mask_is_subtracted() -> None:
    assert_miss(make_graph(replaced("Add(scaled, mask)", "Sub(scaled, mask)")), _RULE)


def test_near_miss_no_mask() -> None:
    text = replaced("  masked = Add(scaled, mask)\n", "").replace("(masked)", "(scaled)")
    assert_miss(make_graph(text), _RULE)


@pytest.mark.parametrize(
    "shape",
    ["B, 1, T, T", "B, 2, 1, S", "1, 2, S, S", "S, S", "S", "B, 1, T, S", "B, 1, 2, S", "1, 1, 1"],
)
def test_near_miss_mask_of_another_shape(shape: str) -> None:
    assert_miss(make_graph(replaced("float[B, 1, 1, S] mask", f"float[{shape}] mask")), _RULE)


def test_near_miss_mask_of_unknown_shape() -> None:
    model = make_graph()
    mask = next(value for value in model.graph.inputs if value.name == "mask")
    mask.shape = None
    assert_miss(model, _RULE)


def test_near_miss_merged_to_another_width() -> None:
    assert_miss(make_graph(eight=np.array([-1], np.int64)), _RULE)


@pytest.mark.parametrize("name", ["qt", "kt", "scores", "masked", "probabilities", "context"])
def test_near_miss_second_consumer(name: str) -> None:
    text = replaced("=> (float[B, S, 8] y)", "=> (float[B, S, 8] y, float other)")
    text = text.replace("\n}", f"\n  other = ReduceMax <keepdims = 0> ({name})\n}}")
    assert_miss(make_graph(text), _RULE)
