"""The INT8 graph: each engine computes what the plans say, in integers, and not far from float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from bert_rt.engines.onnxruntime import _library, open_session
from compile.int8.search import LayerPlan, quantize_rows
from tests.tolerances import INT8_FLOAT_ERROR, INT8_TIE_ATOL, INT_PRODUCT_RTOL
from tests.unit.compile import tiny

_FEEDS = tiny.make_feeds(6, 60, seed=5)


def onnxruntime_logits() -> NDArray[np.float32]:
    return tiny.ort_logits(tiny.int8_bytes(), _FEEDS)


def openvino_logits() -> NDArray[np.float32]:
    return tiny.openvino_logits(tiny.int8_bytes(), _FEEDS)


def numpy_logits() -> NDArray[np.float32]:
    """Compute the graph as the standard's own NumPy implementation reads it."""
    evaluator = ReferenceEvaluator(onnx.load_from_string(tiny.int8_bytes()))
    return np.stack(evaluator.run(["start_logits", "end_logits"], _FEEDS))


@pytest.mark.parametrize("logits", [onnxruntime_logits, openvino_logits])
def test_engines_compute_what_the_standard_says(logits: object) -> None:
    assert callable(logits)
    difference = np.abs(logits() - numpy_logits())
    # Single values on the edge between two steps may fall to either side; all else is float noise.
    assert np.median(difference) < 1e-4
    assert difference.max() < INT8_TIE_ATOL


@pytest.mark.parametrize("logits", [onnxruntime_logits, openvino_logits, numpy_logits])
def test_int8_is_near_float(logits: object) -> None:
    assert callable(logits)
    want = tiny.ort_logits(tiny.fused_bytes(), _FEEDS)
    error = np.square(logits() - want).mean() / want.var()
    assert 0 < error < INT8_FLOAT_ERROR


def run_layer(name: str) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return a layer's float input, its product's integer input and its output, by ONNX Runtime."""
    proto = onnx.load_from_string(tiny.int8_bytes())
    nodes = {node.name: node for node in proto.graph.node}
    quantize = nodes[f"{name}.x_quantized"]
    smoothed = nodes.get(f"{name}.smoothed")
    names = [
        quantize.input[0] if smoothed is None else smoothed.input[0],
        quantize.output[0],
        nodes[f"{name}.add"].output[0],
    ]
    for index, output in enumerate(names):
        kind = onnx.TensorProto.UINT8 if index == 1 else onnx.TensorProto.FLOAT
        proto.graph.output.append(onnx.helper.make_tensor_value_info(output, kind, None))
    session = open_session(proto.SerializeToString(), num_threads=1)
    x, q, y = session.run(names, _FEEDS)
    return x, q, y


def plan_of(name: str) -> LayerPlan:
    return tiny.plans()[name]


@pytest.mark.parametrize("name", tiny.ENCODER_LINEARS)
def test_a_layer_is_computed_in_integers_as_planned(name: str) -> None:
    plan = plan_of(name)
    x, q, y = run_layer(name)
    smooth_K = plan.smooth_K
    factor_N = np.ones_like(plan.bias_N)
    if name.endswith("attention.output.dense"):
        smooth_K = np.ones_like(smooth_K)  # folded into the values, which x is made of
    if name.endswith("qkv"):
        output = plan_of(name.replace("self.qkv", "output.dense"))
        factor_N[-len(output.smooth_K) :] = output.smooth_K
    wanted_q = quantize_rows(x * smooth_K, plan.scale, plan.zero_point)
    np.testing.assert_array_equal(q, wanted_q)
    # Exact: 64 products of at most 255 * 127 are far below 2**31.
    product = (wanted_q.astype(np.int32) - plan.zero_point) @ plan.weight_KN.astype(np.int32)
    want = product * (np.float64(plan.scale) * plan.weight_scale_N * factor_N)
    want += x[..., plan.outlier_channels] @ plan.outlier_weight_RN + plan.bias_N * factor_N
    np.testing.assert_allclose(y, want, rtol=0, atol=INT_PRODUCT_RTOL * np.abs(want).max())
    assert len(np.unique(wanted_q)) > 50  # a layer that is worth comparing


def test_a_wrong_zero_point_is_seen() -> None:
    # What the bounds above are worth: one step off in one layer moves every logit.
    proto = onnx.load_from_string(tiny.int8_bytes())
    (tensor,) = (
        tensor
        for tensor in proto.graph.initializer
        if tensor.name == f"{tiny.ENCODER_LINEARS[2]}.x_zero_point"
    )
    value = onnx.numpy_helper.to_array(tensor)
    nodes = {node.name: node for node in proto.graph.node}
    nodes[f"{tiny.ENCODER_LINEARS[2]}.x_dequantized"].input[2] = "wrong"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(value + 1), "wrong"))
    got = tiny.ort_logits(proto.SerializeToString(), _FEEDS)
    difference = np.abs(got - numpy_logits())
    assert np.median(difference) > 1e-3


def test_embeddings_lose_half_a_step_at_most() -> None:
    table_VD = tiny.loaded_model().model.state_dict()["bert.embeddings.word_embeddings.weight"]
    bound_V = np.abs(table_VD.numpy()).max(1) / 254 * (1 + 1e-4)
    proto = onnx.load_from_string(tiny.int8_bytes())
    (row,) = (node for node in proto.graph.node if node.name.endswith("word_embeddings.row"))
    proto.graph.output.append(
        onnx.helper.make_tensor_value_info(row.output[0], onnx.TensorProto.FLOAT, None)
    )
    session = open_session(proto.SerializeToString(), num_threads=1)
    (got,) = session.run([row.output[0]], _FEEDS)
    ids = _FEEDS["input_ids"]
    error = np.abs(got - table_VD.numpy()[ids])
    assert (error <= bound_V[ids][..., None]).all()
    assert error.max() > 0


# What the engines make of it


def test_onnxruntime_multiplies_in_integers(tmp_path: Path) -> None:
    onnxruntime = _library()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(tiny.int8_bytes(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    counts = Counter(node.op_type for node in optimized.graph.node)
    integer = ("MatMulIntegerToFloat", "QLinearMatMul", "MatMulInteger", "DynamicQuantizeMatMul")
    assert sum(counts[name] for name in integer) == 4 * tiny.NUM_LAYERS
    # Nothing is left that stood around them.
    assert counts["DequantizeLinear"] == 0
    assert counts["QuantizeLinear"] == 4 * tiny.NUM_LAYERS
    assert counts["DynamicQuantizeLinear"] == 0


def test_openvino_multiplies_in_integers() -> None:
    model = tiny.openvino_model(tiny.int8_bytes()).get_runtime_model()
    counts: Counter[tuple[str, str]] = Counter()
    for op in model.get_ordered_ops():
        info = op.get_rt_info()
        counts[info["layerType"].astype(str), info["runtimePrecision"].astype(str)] += 1
    products = ("FullyConnected", "MatMul")
    integer = sum(counts[kind, dtype] for kind in products for dtype in ("u8", "i8"))
    assert integer == 4 * tiny.NUM_LAYERS
