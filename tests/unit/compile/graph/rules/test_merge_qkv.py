"""Tests of compile.graph.rules.merge_qkv."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from compile.graph.fuse import apply_rule
from compile.graph.rules.constants import tensor_of
from compile.graph.rules.merge_qkv import MergeQkvRule
from tests.tolerances import ONE_OP_FLOAT32_ATOL
from tests.unit.compile.graphs import assert_hit, assert_miss, normal, op_types, parse, run

_GRAPH = """qkv (float[B, S, 8] x, float[B, 1, S, S] mask) => (float[B, S, 6] y) {
  xq = MatMul(x, wq)
  xk = MatMul(x, wk)
  xv = MatMul(x, wv)
  q = Add(xq, bq)
  k = Add(xk, bk)
  v = Add(xv, bv)
  y = Attention <q_num_heads = 2, kv_num_heads = 2, scale = 0.25> (q, k, v, mask)
}"""


def make_weights(**changed: NDArray[Any]) -> dict[str, NDArray[Any]]:
    weights: dict[str, NDArray[Any]] = {
        f"w{name}": normal(8, 6, seed=seed) for seed, name in enumerate("qkv")
    }
    weights |= {f"b{name}": normal(6, seed=seed + 3) for seed, name in enumerate("qkv")}
    return weights | changed


def make_graph(text: str = _GRAPH, **changed: NDArray[Any]) -> ir.Model:
    return parse(text, make_weights(**changed))


def make_feeds(batch: int, length: int) -> dict[str, NDArray[np.float32]]:
    mask = np.zeros((batch, 1, length, length), np.float32)
    mask[..., length // 2 + 1 :] = -10000.0
    return {"x": normal(batch, length, 8, seed=9), "mask": mask}


def replaced(old: str, new: str) -> str:
    assert old in _GRAPH
    return _GRAPH.replace(old, new)


def test_hit() -> None:
    model = make_graph()
    assert_hit(
        model, MergeQkvRule(), [make_feeds(1, 1), make_feeds(3, 7)], atol=ONE_OP_FLOAT32_ATOL
    )
    assert op_types(model) == {"MatMul": 1, "Add": 1, "Split": 1, "Attention": 1}
    attention = next(node for node in model.graph if node.op_type == "Attention")
    attributes = {name: attribute.value for name, attribute in attention.attributes.items()}
    assert attributes == {"q_num_heads": 2, "kv_num_heads": 2, "scale": 0.25}
    matmul = next(node for node in model.graph if node.op_type == "MatMul")
    weight = tensor_of(matmul.inputs[1])
    weights = make_weights()
    assert weight is not None
    np.testing.assert_array_equal(
        weight, np.concatenate([weights[name] for name in ("wq", "wk", "wv")], axis=1)
    )


def test_layers_that_share_their_biases() -> None:
    # The exporter stores equal tensors once: the zero biases of a fresh model are one tensor.
    text = """two (float[B, S, 6] x, float[B, 1, S, S] mask) => (float[B, S, 6] y) {
      xq = MatMul(x, wq)
      xk = MatMul(x, wk)
      xv = MatMul(x, wv)
      q = Add(xq, zero)
      k = Add(xk, zero)
      v = Add(xv, zero)
      z = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v, mask)
      zq = MatMul(z, wv)
      zk = MatMul(z, wq)
      zv = MatMul(z, wk)
      q1 = Add(zq, zero)
      k1 = Add(zk, zero)
      v1 = Add(zv, zero)
      y = Attention <q_num_heads = 2, kv_num_heads = 2> (q1, k1, v1, mask)
    }"""
    weights = {f"w{name}": normal(6, 6, seed=seed) for seed, name in enumerate("qkv")}
    model = parse(text, {**weights, "zero": np.zeros(6, np.float32)})
    feeds = {"x": normal(2, 5, 6), "mask": make_feeds(2, 5)["mask"]}
    want = run(model, feeds)[0]
    assert apply_rule(model, MergeQkvRule()) == 2
    np.testing.assert_allclose(run(model, feeds)[0], want, rtol=0, atol=ONE_OP_FLOAT32_ATOL)


def test_near_miss_another_input() -> None:
    text = replaced("[B, S, 8] x,", "[B, S, 8] x, float[B, S, 8] z,").replace("(x, wk)", "(z, wk)")
    assert_miss(make_graph(text), MergeQkvRule())


def test_near_miss_weights_of_unequal_shapes() -> None:
    # Values may be narrower than queries and keys, which have to fit each other.
    text = replaced("float[B, S, 6] y", "float[B, S, 4] y")
    model = make_graph(text, wv=normal(8, 4), bv=normal(4))
    assert_miss(model, MergeQkvRule())


def test_near_miss_bias_of_another_shape() -> None:
    assert_miss(make_graph(bk=normal(1)), MergeQkvRule())
    assert_miss(make_graph(bq=normal(1, 6), bk=normal(1, 6), bv=normal(1, 6)), MergeQkvRule())


def test_near_miss_computed_weight() -> None:
    text = replaced("mask) =>", "mask, float[8, 6] wk) =>")
    weights = make_weights()
    del weights["wk"]
    assert_miss(parse(text, weights), MergeQkvRule())


@pytest.mark.parametrize("name", ["xq", "xv", "q", "k"])
def test_near_miss_second_consumer(name: str) -> None:
    text = replaced("=> (float[B, S, 6] y)", "=> (float[B, S, 6] y, float[B, S, 6] other)")
    text = text.replace("\n}", f"\n  other = Neg({name})\n}}")
    assert_miss(make_graph(text), MergeQkvRule())


def test_near_miss_no_bias() -> None:
    text = replaced("  k = Add(xk, bk)\n", "").replace("(q, k, v", "(q, xk, v")
    assert_miss(make_graph(text), MergeQkvRule())


def test_near_miss_attention_with_past_keys() -> None:
    text = replaced("mask) =>", "mask, float[B, 2, P, 3] pk, float[B, 2, P, 3] pv) =>")
    text = text.replace("v, mask)", "v, mask, pk, pv)")
    assert_miss(make_graph(text), MergeQkvRule())
