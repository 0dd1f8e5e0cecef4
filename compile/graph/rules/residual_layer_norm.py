"""Residual + LayerNorm: the end of a sublayer in one order, whichever way it was traced.

The standard has no operator for both, so nothing gets shorter. What is gained is that every
engine finds LayerNormalization(Add(projection, residual)): ONNX Runtime and OpenVINO fuse that,
and the native engine computes it in the epilogue of the projection.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from compile.graph.rules.constants import tensor_of

__all__ = ["ResidualLayerNormRule"]


class ResidualLayerNormRule(RewriteRuleClassBase):
    """Orders LayerNormalization(residual + (x W + b)) and counts it."""

    def pattern(
        self, op: Any, x: Any, weight: Any, bias: Any, residual: Any, gamma: Any, beta: Any
    ) -> Any:
        """Match the trace's residual connection: residual first, projection second."""
        return op.LayerNormalization(
            residual + (op.MatMul(x, weight) + bias),
            gamma,
            beta,
            _allow_other_attributes=True,
            _outputs=["normalized"],
        )

    def check(
        self, op: Any, weight: ir.Value, gamma: ir.Value, normalized: ir.Value, **_: Any
    ) -> MatchResult:
        """Require a constant projection, and a norm over the last axis only."""
        result = MatchResult()
        if tensor_of(weight) is None or tensor_of(gamma) is None:
            return result.fail("projection or scale is not constant")
        node = normalized.producer()
        assert node is not None, "residual_layer_norm: a matched node has a producer"
        if "axis" in node.attributes and node.attributes["axis"].as_int() != -1:
            return result.fail("norm is not over the last axis", normalized)
        return result

    def rewrite(
        self,
        op: Any,
        x: ir.Value,
        weight: ir.Value,
        bias: ir.Value,
        residual: ir.Value,
        gamma: ir.Value,
        beta: ir.Value,
        normalized: ir.Value,
    ) -> Any:
        """Give LayerNormalization((x W + b) + residual)."""
        node = normalized.producer()
        assert node is not None, "residual_layer_norm: a matched node has a producer"
        return op.LayerNormalization(
            op.Add(op.Add(op.MatMul(x, weight), bias), residual),
            gamma,
            beta,
            **{name: attribute.value for name, attribute in node.attributes.items()},
        )
