"""The ordered passes from a traced graph to the fused one, each counted.

A fusion that is silently lost costs speed that nobody misses until it is measured, so the counts
are compared with what the architecture says, and a difference stops the compile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript.rewriter import RewriteRule, RewriteRuleClassBase, RewriteRuleSet

from bert_rt.errors import UnsupportedOpError
from bert_rt.model.config import BertConfig
from compile.graph.head import GraphHead
from compile.graph.linear import name_linear_layers
from compile.graph.rules.attention import AttentionRule
from compile.graph.rules.gelu import GeluRule
from compile.graph.rules.gemm import GemmRule
from compile.graph.rules.merge_qkv import MergeQkvRule
from compile.graph.rules.residual_layer_norm import ResidualLayerNormRule

__all__ = ["OPSET", "apply_all", "apply_rule", "check_counts", "expected_counts", "fuse"]

# Attention came with 23; the later additions of 24 and 25 are not needed, and not read everywhere.
OPSET = 23
_IR_VERSION = 10


# Rules of heads only; the others are the encoder's, and are always applied.
_HEAD_RULES: Mapping[str, Callable[[], RewriteRuleClassBase]] = {"gemm": GemmRule}
_NO_HEAD = GraphHead()


def fuse(model: ir.Model, config: BertConfig, head: GraphHead = _NO_HEAD) -> dict[str, int]:
    """Fuse a traced graph in place.

    Args:
        model: What compile.graph.trace.trace gave.
        config: The architecture.
        head: What stands behind the encoder.

    Returns:
        Rule name to number of rewrites, all of them as expected_counts says.

    Raises:
        UnsupportedOpError: A rule matched more or less often than the architecture says.
    """
    # Rules in the order in which each finds what the one before has made.
    rules: dict[str, RewriteRuleClassBase] = {
        "gelu": GeluRule(),
        "attention": AttentionRule(config.num_attention_heads, config.head_dim),
        "merged_qkv": MergeQkvRule(),
        "residual_layer_norm": ResidualLayerNormRule(),
    }
    rules |= {name: make() for name, make in _HEAD_RULES.items() if name in head.fusions}
    counts = apply_all(model, rules, expected_counts(config, head))
    name_linear_layers(model, head.linear_layers)
    return counts


def apply_all(
    model: ir.Model,
    rules: Mapping[str, RewriteRuleClassBase | Callable[[ir.Model], int]],
    expected: Mapping[str, int],
) -> dict[str, int]:
    """Apply rules in order, in place, and tidy up.

    Args:
        model: A traced graph.
        rules: Name to rule, or to a pass over the graph that returns the number of its rewrites.
        expected: Name to how often each must match.

    Returns:
        Rule name to number of rewrites.

    Raises:
        UnsupportedOpError: They differ; the message names every rule that does.
    """
    common_passes.ShapeInferencePass()(model)
    model.opset_imports[""] = OPSET
    model.ir_version = _IR_VERSION
    counts = {
        name: apply_rule(model, rule) if isinstance(rule, RewriteRuleClassBase) else rule(model)
        for name, rule in rules.items()
    }
    check_counts(counts, expected)
    _tidy(model)
    return counts


def apply_rule(model: ir.Model, rule: RewriteRuleClassBase) -> int:
    """Apply one rule wherever it matches.

    Args:
        model: The graph, rewritten in place.
        rule: What to look for, and what takes its place.

    Returns:
        Number of rewrites.
    """
    compiled = RewriteRule(rule.pattern, rule.rewrite, rule.check, name=rule.name)
    count: int = RewriteRuleSet([compiled]).apply_to_model(model)
    return count


def expected_counts(config: BertConfig, head: GraphHead = _NO_HEAD) -> dict[str, int]:
    """Return how often each rule must match.

    Args:
        config: The architecture, with L layers.
        head: What stands behind the encoder.

    Returns:
        L attention blocks, L merged QKV projections, L GELUs and 2 L residual layer norms, and
        beside them what the head has.
    """
    layers = config.num_hidden_layers
    counts = {
        "gelu": layers,
        "attention": layers,
        "merged_qkv": layers,
        "residual_layer_norm": 2 * layers,
    }
    return counts | {name: counts.get(name, 0) + more for name, more in head.fusions.items()}


def check_counts(counts: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Compare the number of rewrites with the architecture.

    Args:
        counts: Rule name to number of rewrites.
        expected: What the architecture says.

    Raises:
        UnsupportedOpError: They differ; the message names every rule that does.
    """
    wrong = [
        f"{name}: got {counts.get(name, 0)}, want {wanted}"
        for name, wanted in expected.items()
        if counts.get(name, 0) != wanted
    ]
    if wrong:
        raise UnsupportedOpError(f"fusions: {'; '.join(wrong)}")


def _tidy(model: ir.Model) -> None:
    """Merge equal nodes, drop unused ones and the tracer's notes, and check the result."""
    for step in (
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True),
        common_passes.DeduplicateInitializersPass(),
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.ClearMetadataAndDocStringPass(),
        common_passes.TopologicalSortPass(),
        common_passes.ShapeInferencePass(),
        common_passes.CheckerPass(full_check=True),
    ):
        step(model)
