"""Gemm with a transposed weight becomes MatMul and Add, the one form of a linear layer.

The exporter writes a linear layer over tokens as MatMul and Add, and one over whole sequences (the
pooler, the classifier) as Gemm, which it gives no bias where that is all zeros. What reads an
artifact's graph should have to know one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from compile.graph.rules.constants import tensor_of

__all__ = ["GemmRule"]

# ONNX's Gemm-13 without the attribute, and what is wanted.
_ATTRIBUTES = {"alpha": (1.0, 1.0), "beta": (1.0, 1.0), "transA": (0, 0), "transB": (0, 1)}


class GemmRule(RewriteRuleClassBase):
    """Turns Gemm(x, W, b; transB = 1) into Add(MatMul(x, W transposed), b); no b is zeros."""

    def pattern(self, op: Any, x: Any, weight: Any) -> Any:
        """Match a Gemm with or without a bias, whatever its attributes."""
        others = {"_allow_other_inputs": True, "_allow_other_attributes": True}
        return op.Gemm(x, weight, **others, _outputs=["product"])

    def check(self, op: Any, weight: ir.Value, product: ir.Value, **_: Any) -> MatchResult:
        """Require constants, and that nothing but the weight is scaled or transposed."""
        result = MatchResult()
        node = product.producer()
        assert node is not None, "gemm: a matched Gemm has a producer"
        for name, (default, wanted) in _ATTRIBUTES.items():
            attribute = node.attributes.get(name)
            if (default if attribute is None else attribute.value) != wanted:
                return result.fail(f"{name} is not {wanted}")
        weight_NK, bias = tensor_of(weight), _bias_of(product)
        if weight_NK is None or weight_NK.ndim != 2:
            return result.fail("weight is not a constant of a linear layer's shape")
        bias_N = None if bias is None else tensor_of(bias)
        if bias is not None and (bias_N is None or bias_N.shape != weight_NK.shape[:1]):
            return result.fail("bias is not a constant of a linear layer's shape")
        return result

    def rewrite(self, op: Any, x: ir.Value, weight: ir.Value, product: ir.Value) -> Any:
        """Give Add(MatMul(x, W transposed), b)."""
        weight_NK, bias = tensor_of(weight), _bias_of(product)
        assert weight_NK is not None, "gemm: check has seen a constant"
        weight_KN = ir.tensor(np.ascontiguousarray(weight_NK.T))
        if bias is None:
            zeros_N = np.zeros(weight_NK.shape[0], weight_NK.dtype)
            bias = op.initializer(ir.tensor(zeros_N), name=f"{product.name}.bias")
        # Not named after the bias, which layers share where it is all zeros.
        return op.Add(op.MatMul(x, op.initializer(weight_KN, name=f"{product.name}.weight")), bias)


def _bias_of(product: ir.Value) -> ir.Value | None:
    node = product.producer()
    return node.inputs[2] if node is not None and len(node.inputs) > 2 else None
