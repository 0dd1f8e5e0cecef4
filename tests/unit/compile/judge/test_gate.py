"""Tests of compile.judge.gate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bert_rt.errors import ConfigError, ParityError
from compile.judge.gate import Gate
from compile.tasks.question_answering import QuestionAnswering
from compile.tasks.text_classification import Regression

MEASURE = QuestionAnswering.measure
ERRORS = {f"encoder.layer.{n}.x": 0.001 * (n * 5 % 8) for n in range(8)}


def receipt(float_f1: float, low: float = 0.0, **int8: float) -> dict[str, Any]:
    return {
        "intervals": {"num_clusters": 17},
        "float": {"f1": float_f1, "exact_match": 0.0},
        "int8": {
            engine: {"f1": f1, "exact_match": 0.0, "f1_difference_interval": [low, 0.25]}
            for engine, f1 in int8.items()
        },
    }


@pytest.mark.parametrize(
    ("float_f1", "f1", "ratio"),
    [(80.0, 79.2, 0.99), (80.0, 79.21, 0.99), (80.0, 81.0, 1.0), (0.0, 0.0, 0.99), (50, 0, 0)],
)
def test_passes(float_f1: float, f1: float, ratio: float) -> None:
    Gate(MEASURE, {"min_f1_ratio": ratio}).check(receipt(float_f1, onnxruntime=f1), ERRORS)


@pytest.mark.parametrize(
    ("float_f1", "f1", "ratio"), [(80.0, 79.19, 0.99), (80.0, 79.9999, 1.0), (80.0, math.nan, 0.0)]
)
def test_fails(float_f1: float, f1: float, ratio: float) -> None:
    with pytest.raises(ParityError, match="min_f1_ratio"):
        Gate(MEASURE, {"min_f1_ratio": ratio}).check(receipt(float_f1, onnxruntime=f1), ERRORS)


def test_every_engine_must_pass() -> None:
    with pytest.raises(ParityError, match="INT8 on openvino"):
        Gate(MEASURE).check(receipt(80.0, onnxruntime=80.0, openvino=70.0), ERRORS)


def test_the_message_names_engine_figures_and_layers() -> None:
    with pytest.raises(ParityError) as caught:
        Gate(MEASURE, {"min_f1_ratio": 0.995}).check(receipt(81.28, native=79.5), ERRORS)
    message = str(caught.value)
    for part in ("native", "F1 79.50", "float 81.28", "0.9781", "0.995", "Nothing was written"):
        assert part in message
    worst = sorted(ERRORS, key=lambda name: -ERRORS[name])
    places = [message.index(f"{name} ({ERRORS[name]:.2%})") for name in worst[:5]]
    assert places == sorted(places)
    assert worst[5] not in message
    assert "\n" not in message


@pytest.mark.parametrize(("low", "loss"), [(-0.49, 0.5), (0.0, 1e-9), (-99.9, 100)])
def test_a_loss_that_is_small_for_sure_passes(low: float, loss: float) -> None:
    Gate(MEASURE, {"max_f1_loss": loss}).check(receipt(80.0, low, native=80.0), ERRORS)


@pytest.mark.parametrize(("low", "loss"), [(-0.5, 0.5), (-3.0, 0.5), (-0.1, 0.05), (math.nan, 99)])
def test_a_loss_that_may_be_large_fails(low: float, loss: float) -> None:
    # Though the figure itself shows no loss at all.
    with pytest.raises(ParityError, match="max_f1_loss: INT8 on native") as caught:
        Gate(MEASURE, {"max_f1_loss": loss}).check(receipt(80.0, low, native=80.0), ERRORS)
    message = str(caught.value)
    assert f"between {low:.2f} and 0.25 with 95 % confidence, want more than -{loss}" in message
    assert "more than the 17 passages" in message and "Nothing was written" in message


@pytest.mark.parametrize("loss", [-0.5, 0.0, 100.1, math.nan])
def test_a_bar_that_is_no_loss(loss: float) -> None:
    with pytest.raises(ConfigError, match=r"^max_f1_loss: got .*, want a number above 0"):
        Gate(MEASURE, {"max_f1_loss": loss})


@pytest.mark.parametrize("ratio", [-0.01, 1.01, math.nan, math.inf])
def test_a_bar_that_is_no_ratio(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"^min_f1_ratio: got .*, want a number from 0 to 1$"):
        Gate(MEASURE, {"min_f1_ratio": ratio})


@pytest.mark.parametrize("name", ["min_accuracy_ratio", "max_value_difference", "f1"])
def test_a_bar_of_another_measure(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: got 0.5, but F1 is what this model is held"):
        Gate(MEASURE, {name: 0.5})


@pytest.mark.parametrize(
    ("wanted", "got", "passes"),
    [
        (80.0, 79.5, True),  # the loss that is allowed, to the point
        (80.0, 79.4, False),
        (80.0, 81.0, True),
        (40.0, 39.5, False),  # the ratio is under 0.99
        (0.0, 0.0, True),
        (-40.0, -40.0, True),  # a correlation may be negative
        (-40.0, -40.5, False),
        (80.0, math.nan, False),
    ],
)
def test_both_bars_are_asked(wanted: float, got: float, passes: bool) -> None:
    verdict = Gate(MEASURE).judge(wanted, got, {})
    assert verdict.passes is passes
    assert (
        f"got F1 {got:.2f}, float has {wanted:.2f}; want a loss of at most 0.5" in verdict.summary
    )


@pytest.mark.parametrize(
    ("got", "passes", "may_pass"),
    [
        (89.6, True, True),
        (89.4, False, True),
        (89.1, False, False),
        (math.nan, False, False),
    ],
)
def test_a_verdict_may_pass_within_a_standard_error(
    got: float, passes: bool, may_pass: bool
) -> None:
    verdict = Gate(MEASURE).judge(90.0, got, {}, loss_error=0.3)
    assert (verdict.passes, verdict.may_pass) == (passes, may_pass)
    assert Gate(MEASURE).judge(90.0, got, {}).may_pass is passes


@pytest.mark.parametrize(("num_far", "is_near"), [(8, False), (9, True), (10, True), (11, True)])
def test_a_verdict_is_near_within_a_standard_error(num_far: int, is_near: bool) -> None:
    # 8 of 100 are a mean of 0.08 with a standard error of 0.027; 32 of 400 one of 0.014.
    values = np.repeat([1.0, 0.0], [num_far, 100 - num_far])
    gate = Gate(Regression.measure)
    verdict = gate.judge(90.0, 90.0, {"value_difference": np.tile(values, 4)})
    assert (verdict.passes, verdict.is_near, verdict.may_pass) == (num_far <= 10, is_near, True)
    assert gate.judge(90.0, 90.0, {"value_difference": values}).is_near


@pytest.mark.parametrize(("value", "passes"), [(0.1, True), (0.11, False), (math.nan, False)])
def test_a_ceiling(value: float, passes: bool) -> None:
    gate = Gate(Regression.measure)
    verdict = gate.judge(90.0, 90.0, {"value_difference": value})
    assert verdict.passes is passes and "want at most 0.1" in verdict.summary
    scores = {
        "spearman": 90.0,
        "spearman_difference_interval": [0.0, 0.0],
        "value_difference": value,
    }
    measured = {"float": {"spearman": 90.0}, "int8": {"native": scores}}
    if passes:
        gate.check(measured, ERRORS)
        return
    with pytest.raises(ParityError, match=r"^max_value_difference: INT8 on native has Spearman 90"):
        gate.check(measured, ERRORS)
