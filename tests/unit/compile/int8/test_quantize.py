"""Tests of quantize: the INT8 graph's structure, as docs/artifact-format.md says it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bert_rt.errors import ConfigError, ParityError
from compile.graph.linear import LinearLayer, find_linear_layers
from compile.graph.rules.constants import tensor_of
from compile.int8.pairs import check_pairs, count_broken_pairs
from compile.int8.quantize import SCHEME, QuantConfig, plan_layers, quantize
from compile.int8.search import LayerPlan
from tests.tolerances import INT8_ROUNDING_SLACK
from tests.unit.compile import tiny
from tests.unit.compile.graphs import op_types

_ENCODER = tiny.ENCODER_LINEARS
_FFN_OUTPUT = "encoder.layer.0.output.dense"
_ATTENTION_OUTPUT = "encoder.layer.0.attention.output.dense"
_QKV = "encoder.layer.0.attention.self.qkv"


def int8_model() -> ir.Model:
    return ir.from_proto(onnx.load_from_string(tiny.int8_bytes()))


def changed(name: str, **fields: Any) -> dict[str, LayerPlan]:
    """Return the tiny model's plans, one of them changed."""
    return {**tiny.plans(), name: dataclasses.replace(tiny.plans()[name], **fields)}


def producer(value: ir.Value | None, op_type: str) -> ir.Node:
    node = value.producer() if value is not None else None
    assert node is not None and node.op_type == op_type
    return node


def constant(value: ir.Value | None) -> NDArray[Any]:
    array = tensor_of(value)
    assert array is not None
    return array


def matmul_of(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if node.name == f"{name}.matmul")


def only_user(value: ir.Value) -> ir.Node:
    (use,) = value.uses()
    return use.node


def float_layer(name: str) -> LinearLayer:
    return next(layer for layer in find_linear_layers(tiny.fused()) if layer.name == name)


def test_a_float_node_is_left_in_every_place_that_is_not_quantized() -> None:
    before, after = op_types(tiny.fused()), op_types(int8_model())
    layers = len(_ENCODER)
    num_outlier_layers = sum(bool(len(p.outlier_channels)) for p in tiny.plans().values())
    assert num_outlier_layers == 2  # else this test says nothing of them
    added = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    num_smoothed = sum(
        bool((plan.smooth_K != 1).any()) and not name.endswith("attention.output.dense")
        for name, plan in tiny.plans().items()
    )
    assert added == {
        "QuantizeLinear": layers,
        "DequantizeLinear": 2 * layers,
        # Outliers: channels, product, sum. Embeddings: a Gather becomes two, a Cast and a Mul.
        "Gather": num_outlier_layers + 1,
        "MatMul": num_outlier_layers,
        "Add": num_outlier_layers,
        "Mul": num_smoothed + 1,
        "Cast": 1,
    }


def test_the_graph_is_valid_and_standard() -> None:
    model = int8_model()
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert model.opset_imports == {"": 23}
    assert {node.domain for node in model.graph} == {""}
    inputs = [(value.name, value.dtype) for value in model.graph.inputs]
    assert inputs == [(value.name, value.dtype) for value in tiny.fused().graph.inputs]
    names = [value.name for value in model.graph.outputs]
    assert names == ["start_logits", "end_logits"]


@pytest.mark.parametrize("name", _ENCODER)
def test_quantize_and_dequantize_stand_around_every_product(name: str) -> None:
    model, plan = int8_model(), tiny.plans()[name]
    matmul = matmul_of(model, name)
    a = producer(matmul.inputs[0], "DequantizeLinear")
    q = producer(a.inputs[0], "QuantizeLinear")
    # One scale and one zero point, the same two for both.
    assert a.inputs[1:] == q.inputs[1:]
    scale, zero_point = constant(q.inputs[1]), constant(q.inputs[2])
    assert (scale.shape, scale.dtype, scale) == ((), np.float32, np.float32(plan.scale))
    assert (zero_point.shape, zero_point.dtype, zero_point) == ((), np.uint8, plan.zero_point)
    assert only_user(q.outputs[0]) is a
    assert only_user(a.outputs[0]) is matmul

    w = producer(matmul.inputs[1], "DequantizeLinear")
    assert w.attributes["axis"].as_int() == 1
    weight, scales, zeros = (constant(value) for value in w.inputs)
    assert weight.dtype == np.int8 and weight.min() >= -127
    np.testing.assert_array_equal(weight, plan.weight_KN)
    assert scales.shape == zeros.shape == (weight.shape[1],)
    assert zeros.dtype == np.int8 and not zeros.any()


@pytest.mark.parametrize("name", _ENCODER)
def test_smoothing_stands_in_front_where_it_is_not_folded(name: str) -> None:
    plan = tiny.plans()[name]
    assert (plan.smooth_K != 1).any()  # else this test says nothing
    matmul = matmul_of(int8_model(), name)
    q = producer(producer(matmul.inputs[0], "DequantizeLinear").inputs[0], "QuantizeLinear")
    source = q.inputs[0]
    assert source is not None
    if name.endswith("attention.output.dense"):
        producer(source, "Attention")
        return
    mul = producer(source, "Mul")
    np.testing.assert_array_equal(constant(mul.inputs[1]), plan.smooth_K)
    producer(mul.inputs[0], "Gelu" if name.endswith(".output.dense") else "LayerNormalization")


def test_smoothing_by_1_is_left_out() -> None:
    smooth_K = np.ones_like(tiny.plans()[_QKV].smooth_K)
    model = quantize(tiny.fused(), changed(_QKV, smooth_K=smooth_K))
    matmul = matmul_of(model, _QKV)
    q = producer(producer(matmul.inputs[0], "DequantizeLinear").inputs[0], "QuantizeLinear")
    producer(q.inputs[0], "LayerNormalization")


def test_smoothing_of_attention_is_folded_into_the_values() -> None:
    qkv, output = tiny.plans()[_QKV], tiny.plans()[_ATTENTION_OUTPUT]
    matmul = matmul_of(int8_model(), _QKV)
    scales = constant(producer(matmul.inputs[1], "DequantizeLinear").inputs[1])
    bias = constant(only_user(matmul.outputs[0]).inputs[1])
    size = tiny.CONFIG.hidden_size
    for got, plain in ((scales, qkv.weight_scale_N), (bias, qkv.bias_N)):
        np.testing.assert_array_equal(got[: 2 * size], plain[: 2 * size])
        np.testing.assert_array_equal(got[2 * size :], plain[2 * size :] * output.smooth_K)


def test_smoothing_is_not_folded_into_a_float_layer() -> None:
    plans = {name: plan for name, plan in tiny.plans().items() if name != _QKV}
    model = quantize(tiny.fused(), plans)
    matmul = matmul_of(model, _ATTENTION_OUTPUT)
    q = producer(producer(matmul.inputs[0], "DequantizeLinear").inputs[0], "QuantizeLinear")
    mul = producer(q.inputs[0], "Mul")
    np.testing.assert_array_equal(constant(mul.inputs[1]), plans[_ATTENTION_OUTPUT].smooth_K)
    producer(mul.inputs[0], "Attention")
    # And the other way round: nothing is folded for a layer that stays in float.
    plans = {name: plan for name, plan in tiny.plans().items() if name != _ATTENTION_OUTPUT}
    matmul = matmul_of(quantize(tiny.fused(), plans), _QKV)
    scales = constant(producer(matmul.inputs[1], "DequantizeLinear").inputs[1])
    np.testing.assert_array_equal(scales, plans[_QKV].weight_scale_N)


def test_outlier_channels_are_computed_in_float() -> None:
    plan = tiny.plans()[_FFN_OUTPUT]
    assert tiny.OUTLIER_CHANNEL in plan.outlier_channels
    matmul = matmul_of(int8_model(), _FFN_OUTPUT)
    total = only_user(matmul.outputs[0])
    assert total.op_type == "Add" and total.inputs[0] is matmul.outputs[0]
    product = producer(total.inputs[1], "MatMul")
    np.testing.assert_array_equal(constant(product.inputs[1]), plan.outlier_weight_RN)
    gather = producer(product.inputs[0], "Gather")
    assert gather.attributes["axis"].as_int() == -1
    channels = constant(gather.inputs[1])
    assert channels.dtype == np.int64
    np.testing.assert_array_equal(channels, plan.outlier_channels)
    # The layer's own input, before it is smoothed.
    gelu = producer(gather.inputs[0], "Gelu")
    mul = next(use.node for use in gelu.outputs[0].uses() if use.node.op_type == "Mul")
    assert not constant(mul.inputs[1])[channels].any()
    assert not plan.weight_KN[channels].any()
    weight_KN = float_layer(_FFN_OUTPUT).weight_KN
    np.testing.assert_array_equal(plan.outlier_weight_RN, weight_KN[channels])
    # The bias comes last, as in the other layers.
    bias = only_user(total.outputs[0])
    assert (bias.op_type, bias.name) == ("Add", f"{_FFN_OUTPUT}.add")
    np.testing.assert_array_equal(constant(bias.inputs[1]), plan.bias_N)


def test_outliers_are_looked_for_behind_gelu_only() -> None:
    for name, plan in tiny.plans().items():
        behind_gelu = name.endswith(".output.dense") and not name.endswith("attention.output.dense")
        assert bool(len(plan.outlier_channels)) == behind_gelu


def test_outliers_of_attention_would_be_lost() -> None:
    # Their smoothing factor is 0, and folded into the values it would leave nothing to gather.
    fields = {"outlier_channels": np.array([0]), "outlier_weight_RN": np.ones((1, 32), np.float32)}
    with pytest.raises(AssertionError, match="outliers"):
        quantize(tiny.fused(), changed(_ATTENTION_OUTPUT, **fields))


def test_layers_without_a_plan_stay_float() -> None:
    plans = {_QKV: tiny.plans()[_QKV]}
    model = quantize(tiny.fused(), plans)
    assert op_types(model)["QuantizeLinear"] == 1
    for name in _ENCODER[1:]:
        matmul = matmul_of(model, name)
        add = only_user(matmul.outputs[0])
        layer = float_layer(name)
        np.testing.assert_array_equal(constant(matmul.inputs[1]), layer.weight_KN)
        np.testing.assert_array_equal(constant(add.inputs[1]), layer.bias_N)
    assert op_types(quantize(tiny.fused(), {}))["QuantizeLinear"] == 0


def test_the_head_stays_float() -> None:
    matmul = matmul_of(int8_model(), "qa_outputs")
    np.testing.assert_array_equal(constant(matmul.inputs[1]), float_layer("qa_outputs").weight_KN)


def test_word_embeddings_by_token() -> None:
    model = int8_model()
    input_ids = model.graph.inputs[0]
    # The row and its scale; the type embeddings and the positions do not depend on ids.
    gathers = {use.node.inputs[0].dtype: use.node for use in input_ids.uses()}  # type: ignore[union-attr]
    assert len(input_ids.uses()) == 2
    row, scale = gathers[ir.DataType.INT8], gathers[ir.DataType.FLOAT]
    table_VD, scale_V1 = constant(row.inputs[0]), constant(scale.inputs[0])
    want_VD = tiny.loaded_model().model.state_dict()["bert.embeddings.word_embeddings.weight"]
    assert table_VD.shape == want_VD.shape
    assert scale_V1.shape == (tiny.CONFIG.vocab_size, 1)
    assert table_VD.min() >= -127
    error_VD = np.abs(table_VD * scale_V1 - want_VD.numpy())
    assert (error_VD <= scale_V1 * (0.5 + INT8_ROUNDING_SLACK)).all()
    assert (np.abs(table_VD).max(1) == 127).all()
    cast = only_user(row.outputs[0])
    assert (cast.op_type, cast.attributes["to"].as_int()) == ("Cast", ir.DataType.FLOAT)
    mul = only_user(cast.outputs[0])
    assert mul.op_type == "Mul" and mul is only_user(scale.outputs[0])


def test_no_float_copy_of_what_is_quantized_stays() -> None:
    kept = {
        value.name: value.shape
        for value in int8_model().graph.initializers.values()
        if value.dtype == ir.DataType.FLOAT and value.shape is not None and len(value.shape) == 2
    }
    wanted = {
        "bert.embeddings.position_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight",
        "embeddings.word_embeddings.scale",
        "qa_outputs.weight",
        *(f"encoder.layer.{layer}.output.dense.outlier_weight" for layer in range(2)),
    }
    assert kept.keys() == wanted


def test_the_float_graph_is_not_changed() -> None:
    model = tiny.fused()
    before = tiny.to_bytes(model)
    quantize(model, tiny.plans())
    assert tiny.to_bytes(model) == before


def test_names_are_unique_and_carry_the_layer() -> None:
    model = int8_model()
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    assert f"{_QKV}.x_quantized" in names


def test_equal_bytes_for_equal_seeds() -> None:
    layers = [layer for layer in find_linear_layers(tiny.fused()) if layer.is_encoder]

    def compiled(seed: int) -> bytes:
        config = dataclasses.replace(tiny.QUANT, seed=seed)
        plans = plan_layers(layers, tiny.observers(), config, tiny.Silent())
        return tiny.to_bytes(quantize(tiny.fused(), plans))

    assert compiled(0) == compiled(0) == tiny.int8_bytes()


def test_pair_safe_plans_keep_the_bound() -> None:
    layers = [layer for layer in find_linear_layers(tiny.fused()) if layer.is_encoder]
    config = dataclasses.replace(tiny.QUANT, pair_safe=True)
    plans = plan_layers(layers, tiny.observers(), config, tiny.Silent())
    today = tiny.plans()
    assert sum(count_broken_pairs(plan.weight_KN) for plan in today.values()) > 0
    for name, plan in plans.items():
        assert count_broken_pairs(plan.weight_KN) == 0
        assert not plan.weight_KN[plan.outlier_channels].any()
        np.testing.assert_array_equal(plan.outlier_channels, today[name].outlier_channels)
        # The bound has its price, which is high where neighbours are alike in few channels.
        assert 0.9 * today[name].error < plan.error < 8 * today[name].error
    assert any(len(plan.outlier_channels) for plan in plans.values())
    model = tiny.to_bytes(quantize(tiny.fused(), plans))
    assert check_pairs(model) == len(layers)
    with pytest.raises(ParityError, match="pair_safe"):
        check_pairs(tiny.int8_bytes())


def test_progress_advances_at_every_layer() -> None:
    layers = [layer for layer in find_linear_layers(tiny.fused()) if layer.is_encoder][:3]
    progress = tiny.Silent()
    assert len(plan_layers(layers, tiny.observers(), tiny.QUANT, progress)) == 3
    assert progress.count == 3


@pytest.mark.parametrize("field", ["num_samples", "max_rows", "num_outliers", "seed"])
def test_config_is_checked(field: str) -> None:
    with pytest.raises(ConfigError, match=f"^QuantConfig.{field}: got -1, want "):
        QuantConfig(**{field: -1})


def test_at_most_16_outliers() -> None:
    # docs/artifact-format.md: no reader takes more.
    with pytest.raises(ConfigError, match="num_outliers"):
        QuantConfig(num_outliers=17)


def test_the_scheme_says_what_the_graph_is() -> None:
    assert SCHEME["activations"] == "uint8, static, per_tensor, asymmetric"
    assert SCHEME["weights"] == "int8, per_channel, symmetric"
