"""GELU: x / sqrt(2) -> Erf -> + 1 -> * 0.5 -> * x becomes the standard's Gelu.

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415; ONNX operator Gelu-20 with approximate="none".
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRuleClassBase

from compile.graph.rules.constants import is_scalar

__all__ = ["GeluRule"]


class GeluRule(RewriteRuleClassBase):
    """Fuses the exact GELU, as torch.onnx.export decomposes it below opset 20."""

    def pattern(self, op: Any, x: Any, divisor: Any, one: Any, half: Any) -> Any:
        """Match x * (half * (Erf(x / divisor) + one))."""
        return x * (half * (op.Erf(x / divisor) + one))

    def check(
        self, op: Any, divisor: ir.Value, one: ir.Value, half: ir.Value, **_: Any
    ) -> MatchResult:
        """Require the constants sqrt(2), 1 and 0.5: others are other functions."""
        result = MatchResult()
        for value, wanted in ((divisor, math.sqrt(2)), (one, 1.0), (half, 0.5)):
            if not is_scalar(value, wanted):
                return result.fail(f"constant is not {wanted}", value)
        return result

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        """Give Gelu(x)."""
        return op.Gelu(x, approximate="none")
