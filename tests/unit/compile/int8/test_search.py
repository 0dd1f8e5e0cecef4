"""Tests of compile.int8.search."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bert_rt.engines.onnxruntime import open_session
from compile.int8.calibrate import Observer
from compile.int8.search import (
    LayerPlan,
    dequantize_rows,
    plan_layer,
    quantize_rows,
    quantize_weight,
)
from tests.tolerances import INT8_OUTLIER_ERROR, INT8_ROUNDING_SLACK, ONE_OP_FLOAT32_ATOL
from tests.unit.compile.graphs import normal

_floats = st.floats(-1e4, 1e4, width=32)
_scales = st.floats(2**-20, 2**10, width=32)


def observe(x_TK: NDArray[np.float32]) -> Observer:
    observer = Observer(x_TK.shape[1], max_rows=len(x_TK), seed=0)
    observer.update(x_TK)
    return observer


def plan(
    x_TK: NDArray[np.float32],
    weight_KN: NDArray[np.float32],
    bias_N: NDArray[np.float32] | None = None,
    *,
    num_outliers: int = 0,
) -> LayerPlan:
    bias_N = np.zeros(weight_KN.shape[1], np.float32) if bias_N is None else bias_N
    return plan_layer("l", weight_KN, bias_N, observe(x_TK), num_outliers=num_outliers, seed=0)


def simulate(plan: LayerPlan, x_TK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the layer as an engine does, without integers."""
    q_TK = quantize_rows(x_TK * plan.smooth_K, plan.scale, plan.zero_point)
    weight_KN = plan.weight_KN * plan.weight_scale_N
    y_TN = dequantize_rows(q_TK, plan.scale, plan.zero_point) @ weight_KN + plan.bias_N
    y_TN += x_TK[:, plan.outlier_channels] @ plan.outlier_weight_RN
    return y_TN


def relative_error(got: NDArray[np.float32], want: NDArray[np.float32]) -> float:
    return float(np.square(got - want).sum() / np.square(want).sum())


def assert_sane(plan: LayerPlan) -> None:
    """Check what holds of every plan, however strange the layer is."""
    assert np.float32(plan.scale) > 0
    assert 0 <= plan.zero_point <= 255
    assert plan.weight_KN.dtype == np.int8
    assert plan.weight_KN.min() >= -127
    for name in ("smooth_K", "outlier_weight_RN", "weight_scale_N", "bias_N"):
        array = getattr(plan, name)
        assert array.dtype == np.float32 and np.isfinite(array).all(), name
    assert (plan.weight_scale_N >= np.finfo(np.float32).tiny).all()
    assert plan.outlier_channels.dtype == np.int64
    np.testing.assert_array_equal(np.flatnonzero(plan.smooth_K == 0), plan.outlier_channels)
    assert not plan.weight_KN[plan.outlier_channels].any()
    assert 0 <= plan.error <= plan.naive_error


# Rounding


@given(hnp.arrays(np.float32, 20, elements=_floats), _scales, st.integers(0, 255))
def test_dequantized_values_are_half_a_step_away_at_most(
    x_T: NDArray[np.float32], scale: float, zero_point: int
) -> None:
    low, high = -zero_point * scale, (255 - zero_point) * scale
    inside = np.clip(x_T, np.float32(low), np.float32(high))
    back = dequantize_rows(quantize_rows(inside, scale, zero_point), scale, zero_point)
    assert (np.abs(back - inside) <= scale * (0.5 + INT8_ROUNDING_SLACK)).all()
    # Beyond the range, the nearest end.
    back = dequantize_rows(quantize_rows(x_T, scale, zero_point), scale, zero_point)
    assert (np.abs(back - inside) <= scale * (0.5 + INT8_ROUNDING_SLACK)).all()


@given(_scales, st.integers(0, 255))
def test_zero_is_exact(scale: float, zero_point: int) -> None:
    zero = np.zeros(1, np.float32)
    assert dequantize_rows(quantize_rows(zero, scale, zero_point), scale, zero_point) == 0


def test_quantized_as_the_standards_operator_does() -> None:
    # Halves above all: they go to the even neighbour, before the zero point is added.
    scale, zero_point = 0.25, 3
    halves = (np.arange(-20, 540, dtype=np.float32) + 0.5) * np.float32(scale)
    x = np.concatenate([halves, normal(4000, scale=20), np.array([1e30, -1e30], np.float32)])
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("q", TensorProto.UINT8, [None])],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("z", TensorProto.UINT8, [], [zero_point]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.checker.check_model(model)
    session = open_session(model.SerializeToString(), num_threads=1)
    (want,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(quantize_rows(x, scale, zero_point), want)


@given(hnp.arrays(np.float32, (6, 4), elements=_floats))
def test_weights_are_symmetric_by_channel(weight_KN: NDArray[np.float32]) -> None:
    q_KN, scale_N = quantize_weight(weight_KN)
    assert (q_KN.dtype, scale_N.dtype) == (np.int8, np.float32)
    assert q_KN.min() >= -127  # -128 would have no counterpart
    assert (scale_N > 0).all()
    error_KN = np.abs(q_KN * scale_N - weight_KN)
    tiny = np.finfo(np.float32).tiny
    assert (error_KN <= scale_N * (0.5 + INT8_ROUNDING_SLACK)).all()
    # Every channel uses its whole range.
    used = np.abs(weight_KN).max(0) / 127 >= tiny
    assert (np.abs(q_KN).max(0)[used] == 127).all()
    assert not q_KN[:, ~used].any()


# Plans


@pytest.mark.parametrize("seed", range(6))
def test_never_worse_than_naive(seed: int) -> None:
    random = np.random.default_rng(seed)
    size_K = np.exp(random.normal(0, 1.5, 24)).astype(np.float32)
    x_TK = (normal(300, 24, seed=seed) + 0.5) * size_K
    found = plan(x_TK, normal(24, 16, seed=seed + 100), num_outliers=2)
    assert_sane(found)
    assert found.error < 0.5 * found.naive_error  # channels this uneven leave much to gain


def test_naive_is_one_scale_from_the_least_to_the_greatest_value() -> None:
    x_TK, weight_KN = normal(256, 12) + 0.3, normal(12, 9, seed=1)
    x_TK[:, 4] *= 6
    low, high = x_TK.min(), x_TK.max()
    scale = (high - low) / 255
    back_TK = (np.rint(x_TK / scale) * scale).astype(np.float32)
    step_N = np.abs(weight_KN).max(0) / 127
    error_TN = x_TK @ weight_KN - back_TK @ (np.rint(weight_KN / step_N) * step_N)
    # As in every trial, the mean goes into the bias.
    want = np.square(error_TN - error_TN.mean(0)).sum() / np.square(x_TK @ weight_KN).sum()
    np.testing.assert_allclose(plan(x_TK, weight_KN).naive_error, want, rtol=0.02)


def test_error_is_the_one_of_the_layer_as_it_will_run() -> None:
    x_TK, weight_KN, bias_N = normal(256, 32), normal(32, 24, seed=1), normal(24, seed=2)
    x_TK[:, 3] *= 20
    for num_outliers in (0, 4):
        found = plan(x_TK, weight_KN, bias_N, num_outliers=num_outliers)
        got, want = simulate(found, x_TK), x_TK @ weight_KN + bias_N
        error = np.square(got - want).sum() / np.square(x_TK @ weight_KN).sum()
        np.testing.assert_allclose(found.error, error, rtol=1e-3)


def test_nothing_to_smooth_is_quantized_plainly() -> None:
    # Equal channels and equal rows of weights: every strength gives the same factors, 1.
    x_TK = np.tile(normal(200, 1), (1, 8))
    found = plan(x_TK, np.tile(normal(1, 5, seed=1), (8, 1)))
    assert_sane(found)
    assert (found.alpha, found.smooth_K.tolist()) == (0.0, [1.0] * 8)
    span = (x_TK.max() - x_TK.min()) * found.clip
    assert found.scale == pytest.approx(span / 255, rel=1e-6)
    assert found.zero_point == round(-x_TK.min() * found.clip / found.scale)


def test_smoothing_goes_from_the_input_into_the_weight() -> None:
    x_TK, weight_KN = normal(400, 16), normal(16, 12, seed=1)
    x_TK[:, 2] *= 8
    found = plan(x_TK, weight_KN)
    assert found.alpha > 0
    # The wide channel is narrowed, its weights grow.
    assert found.smooth_K[2] == found.smooth_K.min() < 0.5
    restored = found.weight_KN * found.weight_scale_N * found.smooth_K[:, None]
    step_KN = found.weight_scale_N * found.smooth_K[:, None]
    # Not to the nearest step, where another one makes good for a neighbour.
    assert (np.abs(restored - weight_KN) <= step_KN).all()


def test_an_outlier_channel_is_rescued_and_listed() -> None:
    x_TK, weight_KN = normal(1024, 64), normal(64, 32, seed=1, scale=0.1)
    x_TK[:, 17] *= 50
    found = plan(x_TK, weight_KN, num_outliers=4)
    assert_sane(found)
    assert len(found.outlier_channels) == 4
    assert 17 in found.outlier_channels
    np.testing.assert_array_equal(found.outlier_weight_RN, weight_KN[found.outlier_channels])
    # Judged without the channel that is computed exactly.
    rest = np.delete(np.arange(64), 17)
    want = x_TK[:, rest] @ weight_KN[rest]
    without = x_TK.copy()
    without[:, 17] = 0
    assert relative_error(simulate(found, without) - found.bias_N, want) < INT8_OUTLIER_ERROR
    assert found.error < found.naive_error / 50
    # Its range is not the outliers' any more, and nobody else's.
    q_TK = quantize_rows(x_TK * found.smooth_K, found.scale, found.zero_point)
    assert q_TK.min() <= 1 and q_TK.max() >= 254


def test_outliers_are_not_kept_where_they_gain_little() -> None:
    found = plan(normal(512, 64), normal(64, 32, seed=1), num_outliers=4)
    assert len(found.outlier_channels) == 0
    assert found.outlier_weight_RN.shape == (0, 32)
    assert (found.smooth_K > 0).all()


def test_an_outlier_channel_without_the_offer_of_float() -> None:
    x_TK = normal(512, 64)
    x_TK[:, 17] *= 50
    found = plan(x_TK, normal(64, 32, seed=1))
    assert len(found.outlier_channels) == 0
    assert found.error < found.naive_error / 5


def test_bias_takes_up_the_mean_error() -> None:
    # Between two steps of the scale: rounding is off by the same amount nearly every time.
    x_TK = 0.26 + normal(300, 6, scale=1e-4)
    x_TK[0], x_TK[1] = 0.0, 1.0
    weight_KN, bias_N = np.abs(normal(6, 4, seed=1)), normal(4, seed=2)
    found = plan(x_TK, weight_KN, bias_N)
    correction_N = found.bias_N - bias_N
    uncorrected = dataclasses.replace(found, bias_N=bias_N)
    want = x_TK @ weight_KN + bias_N
    assert np.abs((simulate(uncorrected, x_TK) - want).mean(0)).min() > 1e-4
    assert np.abs((simulate(found, x_TK) - want).mean(0)).max() < ONE_OP_FLOAT32_ATOL
    assert (np.abs(correction_N) > 1e-4).all()


def test_the_same_every_time() -> None:
    x_TK, weight_KN = normal(3000, 12), normal(12, 8, seed=1)
    one, other = plan(x_TK, weight_KN, num_outliers=2), plan(x_TK, weight_KN, num_outliers=2)
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


# Strange layers. Warnings are errors, so a division by zero would fail here.


@pytest.mark.parametrize("value", [0.0, 0.7, -3.0, 1e-30, 1e30])
def test_all_inputs_are_equal(value: float) -> None:
    x_TK = np.full((64, 8), value, np.float32)
    weight_KN, bias_N = normal(8, 5), normal(5, seed=1)
    found = plan(x_TK, weight_KN, bias_N, num_outliers=2)
    assert_sane(found)
    # There is one output, which the corrected bias makes exact but for rounding.
    want = x_TK @ weight_KN + bias_N
    np.testing.assert_allclose(simulate(found, x_TK), want, rtol=1e-4, atol=ONE_OP_FLOAT32_ATOL)


def test_zero_columns_of_a_weight() -> None:
    x_TK, weight_KN = normal(64, 8), normal(8, 5)
    weight_KN[:, 2] = 0
    found = plan(x_TK, weight_KN)
    assert_sane(found)
    assert not simulate(found, x_TK)[:, 2].any()


@pytest.mark.parametrize("value", [0.0, 1e-42])
def test_a_weight_of_nothing(value: float) -> None:
    found = plan(normal(64, 8), np.full((8, 5), value, np.float32), normal(5))
    assert_sane(found)
    assert not found.weight_KN.any()
    np.testing.assert_allclose(found.bias_N, normal(5), rtol=0, atol=1e-30)


def test_dead_channels() -> None:
    x_TK, weight_KN = normal(200, 16), normal(16, 12, seed=1)
    x_TK[:, ::2] = 0
    found = plan(x_TK, weight_KN, num_outliers=2)
    assert_sane(found)
    assert found.error < INT8_OUTLIER_ERROR
    assert not set(found.outlier_channels.tolist()) & set(range(0, 16, 2))


@pytest.mark.parametrize(("low", "zero_point"), [(0.0, 0), (-1.0, 255)])
def test_one_sided_inputs_use_the_whole_range(low: float, zero_point: int) -> None:
    x_TK = np.random.default_rng(0).random((300, 8), np.float32) + np.float32(low)
    found = plan(x_TK, normal(8, 6))
    assert_sane(found)
    assert found.zero_point == zero_point
    q_TK = quantize_rows(x_TK * found.smooth_K, found.scale, found.zero_point)
    assert q_TK.min() <= 1 and q_TK.max() >= 254


def test_zero_is_always_in_the_range() -> None:
    # Padding, and outlier channels, are quantized as 0.
    x_TK = np.random.default_rng(0).random((300, 8), np.float32) + np.float32(5)
    found = plan(x_TK, normal(8, 6))
    assert_sane(found)
    assert found.zero_point == 0
    assert found.error < INT8_OUTLIER_ERROR


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 5), (2, 1), (3, 2)])
@pytest.mark.parametrize("num_outliers", [0, 1, 2, 16])
@pytest.mark.parametrize("num_rows", [1, 40])
def test_tiny_layers(k: int, n: int, num_outliers: int, num_rows: int) -> None:
    x_TK, weight_KN, bias_N = normal(num_rows, k), normal(k, n, seed=1), normal(n, seed=2)
    found = plan(x_TK, weight_KN, bias_N, num_outliers=num_outliers)
    assert_sane(found)
    assert found.weight_KN.shape == (k, n)
    assert len(found.outlier_channels) in (0, num_outliers)
    error = np.abs(simulate(found, x_TK) - (x_TK @ weight_KN + bias_N))
    # K products of a value and a weight, each off by half a step of 255 and of 127.
    bound = k * np.abs(x_TK).max() * np.abs(weight_KN).max() * (1 / 255 + 1 / 254)
    assert error.max() < 2 * bound


def test_smoothing_can_be_ruled_out() -> None:
    x_TK = normal(1024, 16)
    x_TK[:, 3] *= 50.0
    weight_KN = normal(16, 8)
    bias_N = np.zeros(8, np.float32)
    smoothed = plan(x_TK, weight_KN)
    plain = plan_layer(
        "l", weight_KN, bias_N, observe(x_TK), num_outliers=0, seed=0, may_smooth=False
    )
    assert smoothed.alpha > 0 and not np.all(smoothed.smooth_K == 1)
    assert plain.alpha == 0 and np.all(plain.smooth_K == 1)
    assert plain.error > smoothed.error
    assert_sane(plain)
