"""Tests of compile.report.reliability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compile.judge.temperature import Confidence, score_receipt
from compile.report.reliability import render_confidence
from tests.unit.compile.report.test_report import Page

_FITTED = {
    "score_temperature": 1.375,
    "log_loss": 0.4,
    "log_loss_at_one": 0.5,
    "total": 1003,
    "verdict": "fitted",
    "data": "calibration_file",
}


def calibration(temperature: float, *, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    scores = random.random(200)
    correct = (random.random(200) < scores).astype(np.float64)
    return score_receipt(Confidence(temperature, scores**0.5, scores, correct))


def receipt(**engines: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {"float": {"score_calibration": calibration(1.25)}}
    if engines:
        figures["int8"] = {name: {"score_calibration": one} for name, one in engines.items()}
    return figures


def test_tells_everything() -> None:
    native = calibration(1.375, seed=1)
    figures = receipt(onnxruntime=calibration(1.375), native=native)
    page = Page(render_confidence(figures, {"score_calibration": _FITTED}).encode())
    assert "a temperature of 1.375, for 1003 examples of calibration_file : fitted" in page.text
    assert "log loss 0.5000 before, 0.4000 after" in page.text
    before, after = (
        100 * native[name]["expected_calibration_error"] for name in ("before", "after")
    )
    assert f"int8 native 1.38 {before:.2f} {after:.2f}" in page.text
    assert "float32 onnxruntime 1.25" in page.text
    assert page.seen.count("svg") == 1
    for title in ("float32, onnxruntime", "int8, onnxruntime", "int8, native"):
        assert page.text.count(title) == 1


@pytest.mark.parametrize(
    ("data", "is_warned"), [("calibration_file", True), ("score_calibration_file", False)]
)
def test_says_where_scores_may_be_too_high(data: str, is_warned: bool) -> None:
    fitted = {**_FITTED, "data": data}
    text = Page(render_confidence(receipt(), {"score_calibration": fitted}).encode()).text
    assert ("may have been trained on these examples" in text) == is_warned


def test_without_a_fit() -> None:
    text = Page(render_confidence(receipt(), {}).encode()).text
    assert "No temperature was fitted" in text and "int8" not in text


def test_names_are_text() -> None:
    evil = "<script>alert(1)</script>"
    figures = receipt(**{evil: calibration(1.0)})
    fitted = {**_FITTED, "verdict": evil, "data": evil}
    page = Page(render_confidence(figures, {"score_calibration": fitted}).encode())
    assert "script" not in page.seen and page.text.count(evil) >= 4


def test_one_answer_is_enough_for_a_diagram() -> None:
    one = np.array([1.0])
    figures = {"float": {"score_calibration": score_receipt(Confidence(1.0, one, one, one))}}
    assert render_confidence(figures, {}) == render_confidence(figures, {})
