"""Attention: heads split, scaled, masked, softmaxed and merged again become one Attention.

The scale goes into the operator's attribute; heads and their transposes disappear.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2; ONNX operator Attention-23 with
three-dimensional inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from compile.graph.rules.constants import is_scalar, tensor_of

__all__ = ["AttentionRule"]


class AttentionRule(RewriteRuleClassBase):
    """Fuses multi-head scaled dot-product attention with an additive mask."""

    def __init__(self, num_heads: int, head_dim: int) -> None:
        """Take the model's head count and width, which the graph only implies."""
        super().__init__()
        self._num_heads = num_heads
        self._head_dim = head_dim

    def pattern(
        self,
        op: Any,
        q: Any,
        k: Any,
        v: Any,
        mask: Any,
        scale: Any,
        split_q: Any,
        split_k: Any,
        split_v: Any,
        merged: Any,
    ) -> Any:
        """Match softmax(q k^T * scale + mask) v over heads, all inputs of shape (B, *, D)."""
        q_BNSH = op.Transpose(op.Reshape(q, split_q), perm=[0, 2, 1, 3])
        k_BNHS = op.Transpose(op.Reshape(k, split_k), perm=[0, 2, 3, 1])
        v_BNSH = op.Transpose(op.Reshape(v, split_v), perm=[0, 2, 1, 3])
        probabilities = op.Softmax(op.MatMul(q_BNSH, k_BNHS) * scale + mask, axis=-1)
        context_BSNH = op.Transpose(op.MatMul(probabilities, v_BNSH), perm=[0, 2, 1, 3])
        return op.Reshape(context_BSNH, merged, _outputs=["context"])

    def check(
        self,
        op: Any,
        q: ir.Value,
        scale: ir.Value,
        mask: ir.Value,
        split_q: ir.Value,
        split_k: ir.Value,
        split_v: ir.Value,
        merged: ir.Value,
        **_: Any,
    ) -> MatchResult:
        """Require the model's heads, the scale 1 / sqrt(H) and a mask for all heads alike."""
        result = MatchResult()
        for value in (split_q, split_k, split_v):
            if _last_dims(value, 2) != (self._num_heads, self._head_dim):
                return result.fail(f"heads are not {self._num_heads} x {self._head_dim}", value)
        if _last_dims(merged, 1) != (self._num_heads * self._head_dim,):
            return result.fail("the merged width is not heads x head width", merged)
        if not is_scalar(scale, self._head_dim**-0.5):
            return result.fail(f"scale is not 1 / sqrt({self._head_dim})", scale)
        if mask.shape is None or len(mask.shape) != 4 or mask.shape[1] != 1:
            return result.fail("mask is not of shape (B, 1, 1 or Q, S)", mask)
        if mask.shape[2] != 1 and not _has_rows_of(mask, q):
            return result.fail("mask is not of shape (B, 1, 1 or Q, S)", mask)
        return result

    def rewrite(
        self,
        op: Any,
        q: ir.Value,
        k: ir.Value,
        v: ir.Value,
        mask: ir.Value,
        **_: Any,
    ) -> Any:
        """Give Attention(q, k, v, mask).

        The mask is laid out for every query: ONNX Runtime does not broadcast that dimension. All
        layers share it once equal nodes have been merged. One that has a row for every query, as
        split layers have it, stays as it is.
        """
        return op.Attention(
            q,
            k,
            v,
            self._laid_out(op, q, mask),
            q_num_heads=self._num_heads,
            kv_num_heads=self._num_heads,
            scale=float(np.float32(self._head_dim**-0.5)),
        )

    def _laid_out(self, op: Any, q: ir.Value, mask: ir.Value) -> Any:
        if _has_rows_of(mask, q) or (q.shape is not None and q.shape[1] == 1):
            return mask
        length = op.Shape(mask, start=3, end=4)
        is_square = q.shape is None or mask.shape is None or q.shape[1] == mask.shape[3]
        num_queries = length if is_square else op.Shape(q, start=1, end=2)
        ones = op.Constant(value_ints=[1, 1])
        return op.Expand(mask, op.Concat(ones, num_queries, length, axis=0))


def _has_rows_of(mask: ir.Value, q: ir.Value) -> bool:
    """Whether a mask is known to have a row for every query."""
    if mask.shape is None or q.shape is None or mask.shape[2] == 1:
        return False
    return str(mask.shape[2]) == str(q.shape[1])


def _last_dims(shape: ir.Value, count: int) -> tuple[int, ...] | None:
    """Return the last entries of a shape that Concat puts together, or that is a constant."""
    array = tensor_of(shape)
    if array is not None:
        return tuple(int(size) for size in array[-count:])
    node = shape.producer()
    if node is None or node.op_type != "Concat":
        return None
    parts = [tensor_of(value) for value in node.inputs[-count:]]
    if any(part is None or part.size != 1 for part in parts):
        return None
    return tuple(int(part.item()) for part in parts if part is not None)
