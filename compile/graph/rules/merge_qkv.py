"""Merged QKV: the three projections in front of an Attention become one, and a Split.

One wide matrix product reads and quantizes the hidden states once instead of three times.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from compile.graph.rules.constants import tensor_of

__all__ = ["MergeQkvRule"]


class MergeQkvRule(RewriteRuleClassBase):
    """Merges Add(MatMul(x, W), b) for queries, keys and values of one Attention."""

    def pattern(
        self,
        op: Any,
        x: Any,
        w_q: Any,
        b_q: Any,
        w_k: Any,
        b_k: Any,
        w_v: Any,
        b_v: Any,
        mask: Any,
    ) -> Any:
        """Match an Attention whose three inputs are projections of the same x."""
        return op.Attention(
            op.MatMul(x, w_q) + b_q,
            op.MatMul(x, w_k) + b_k,
            op.MatMul(x, w_v) + b_v,
            mask,
            _allow_other_attributes=True,
            _outputs=["attended"],
        )

    def check(
        self,
        op: Any,
        w_q: ir.Value,
        b_q: ir.Value,
        w_k: ir.Value,
        b_k: ir.Value,
        w_v: ir.Value,
        b_v: ir.Value,
        **_: Any,
    ) -> MatchResult:
        """Require constant weights and biases of one shape."""
        result = MatchResult()
        for values, ndim in (((w_q, w_k, w_v), 2), ((b_q, b_k, b_v), 1)):
            arrays = [tensor_of(value) for value in values]
            shapes = {array.shape if array is not None else None for array in arrays}
            if len(shapes) != 1 or len(shapes.pop() or ()) != ndim:
                return result.fail("weights or biases are not constants of one shape")
        return result

    def rewrite(
        self,
        op: Any,
        x: ir.Value,
        w_q: ir.Value,
        b_q: ir.Value,
        w_k: ir.Value,
        b_k: ir.Value,
        w_v: ir.Value,
        b_v: ir.Value,
        mask: ir.Value,
        attended: ir.Value,
    ) -> Any:
        """Give Attention(Split(Add(MatMul(x, [Wq Wk Wv]), [bq bk bv])))."""
        # Not named after the bias, which layers share where it is all zeros; linear gives
        # the name that stays.
        name = f"{attended.name}.qkv"
        weight = np.concatenate([tensor_of(value) for value in (w_q, w_k, w_v)], axis=1)
        bias = np.concatenate([tensor_of(value) for value in (b_q, b_k, b_v)])
        qkv = op.MatMul(x, op.initializer(ir.tensor(weight), name=f"{name}.weight"))
        qkv = op.Add(qkv, op.initializer(ir.tensor(bias), name=f"{name}.bias"))
        q, k, v = op.Split(qkv, axis=-1, num_outputs=3, _outputs=3)
        node = attended.producer()
        assert node is not None, "merge_qkv: a matched Attention has a producer"
        return op.Attention(q, k, v, mask, **{name: a.value for name, a in node.attributes.items()})
