"""Small graphs in ONNX's text form: parsed, rewritten, run and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxscript.rewriter import RewriteRuleClassBase

from bert_rt.engines.onnxruntime import _library
from compile.graph.fuse import apply_rule

_HEADER = '<ir_version: 10, opset_import: ["" : 23]>\n'


def parse(text: str, weights: Mapping[str, NDArray[Any]]) -> ir.Model:
    """Make a model of `name (inputs) => (outputs) { nodes }` and its weights, shapes inferred."""
    proto = onnx.parser.parse_model(_HEADER + text)
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    model = ir.from_proto(proto)
    common_passes.ShapeInferencePass()(model)
    common_passes.CheckerPass(full_check=True)(model)
    return model


def run(model: ir.Model, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Compute a model's outputs, node by node as it stands."""
    onnxruntime = _library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Without ONNX Runtime's own fusions, which would make before and after the same.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    outputs: list[NDArray[np.float32]] = session.run(None, dict(feeds))
    return outputs


def op_types(model: ir.Model) -> Counter[str]:
    """Count the nodes by operator."""
    return Counter(node.op_type for node in model.graph)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    """Return random values, the same ones for the same arguments."""
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def assert_hit(
    model: ir.Model,
    rule: RewriteRuleClassBase,
    feeds: Sequence[Mapping[str, NDArray[Any]]],
    *,
    atol: float,
) -> None:
    """Apply a rule that must match once, and compare what the graph computes before and after."""
    before = [run(model, feed) for feed in feeds]
    assert apply_rule(model, rule) == 1
    common_passes.CheckerPass(full_check=True)(model)
    for feed, wanted in zip(feeds, before, strict=True):
        for got, want in zip(run(model, feed), wanted, strict=True):
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def assert_miss(model: ir.Model, rule: RewriteRuleClassBase) -> None:
    """Apply a rule that must not match, and see that it changed nothing."""
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert apply_rule(model, rule) == 0
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
