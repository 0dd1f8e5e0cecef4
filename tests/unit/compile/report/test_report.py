"""Tests of compile.report.report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from compile.int8.search import LayerPlan
from compile.judge.gate import Gate
from compile.judge.temperature import Confidence, score_receipt
from compile.report.changes import Change
from compile.report.report import render_report
from compile.tasks.question_answering import QuestionAnswering
from tests.unit.compile import tiny

_VOID = {"meta", "br", "hr", "img", "link", "input"}
_FUSIONS = {"gelu": 2, "attention": 2, "merged_qkv": 31}
_RECEIPT: dict[str, Any] = {
    "dataset": {"name": "dev-v1.1.json.gz", "sha256": "0" * 64, "total": 10570},
    "intervals": {"confidence": 0.95, "num_resamples": 10000, "num_clusters": 2067},
    "float": {"f1": 81.28, "exact_match": 71.52, "f1_interval": [80.51, 82.04]},
    "int8": {
        "openvino": {
            "f1": 81.2,
            "exact_match": 71.4,
            "f1_interval": [80.41, 81.97],
            "f1_difference": -0.08,
            "f1_difference_interval": [-0.2, 0.04],
            "f1_ratio": 0.999,
            "equal_answers": 0.987,
            "equal_answers_interval": [0.985, 0.989],
        }
    },
}
_CHANGES = [
    Change("Who came?", "Ada", "", 1.0, 0.0),
    Change("Where to?", "Paris", "in Paris", 0.5, 0.5),
    Change("Why?", "", "rain", 0.0, 2 / 3),
]


class Page(HTMLParser):
    """Checks that tags close in order, and collects what matters."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.declarations: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()
        assert self.open == []

    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def quantization(names: Iterable[str]) -> dict[str, Any]:
    return {
        "layers": {name: {"sensitivity": 2.5e-6} for name in names},
        "held_out": {"total": 1003, "verdict": "got F1 89.90, float has 90.00"},
        "float_layers": {},
    }


def render(**changed: Any) -> bytes:
    values: dict[str, Any] = {
        "title": "tiny, int8",
        "fusions": _FUSIONS,
        "provenance": {"checkpoint": "tiny", "tools": {"torch": "2.13.0"}},
        "receipt": _RECEIPT,
        "plans": tiny.plans(),
        "gate": Gate(QuestionAnswering.measure),
        "changes": {"openvino": _CHANGES},
        "quantization": quantization(tiny.plans()),
    }
    return render_report(**values | changed)


def test_is_a_whole_page() -> None:
    page = Page(render())
    assert page.declarations == ["doctype html"]
    assert page.seen[0] == "html"
    assert [page.seen.count(tag) for tag in ("html", "head", "title", "body", "h1")] == [1] * 5
    assert ("meta", "charset", "utf-8") in page.attributes


def test_loads_nothing() -> None:
    data = render()
    page = Page(data)
    assert not set(page.seen) & {"script", "link", "img", "iframe", "object", "embed", "base"}
    for tag, name, value in page.attributes:
        if name in ("href", "xlink:href", "src", "data", "poster", "action", "srcset"):
            assert value.startswith("#"), (tag, name, value)
        if name == "style" or "url(" in value:
            assert "url(" not in value.replace("url(#", ""), (tag, name, value)
        assert not name.startswith("on")
    assert "@import" not in data.decode()
    assert "url(" not in re.sub(r"url\(#", "", data.decode())


def test_tells_everything() -> None:
    text = Page(render()).text
    for plan in tiny.plans().values():
        assert plan.name in text
        assert f"{plan.naive_error:.2e}" in text and f"{plan.error:.2e}" in text
    outliers = tiny.plans()["encoder.layer.0.output.dense"].outlier_channels
    assert " ".join(str(channel) for channel in outliers) in text
    for name, count in _FUSIONS.items():
        assert f"{name} {count}" in text
    for part in ("10570", "dev-v1.1.json.gz", "81.28", "71.52", "81.20 [80.41, 81.97]", "99.90%"):
        assert part in text
    for part in ("-0.08 [-0.20, 0.04]", "98.70 [98.50, 98.90]", "10000 resamples", "2067 passages"):
        assert part in text
    assert (
        "Gate: passed, at least 99.00% of float's F1 on every engine, and a loss of less than 0.5 "
        "at the interval's lower end." in text
    )
    assert "tools.torch 2.13.0" in text


def test_changed_answers() -> None:
    text = Page(render()).text
    assert "3 results differ from float's; 1 score less, 1 more. Shown: 3" in text
    assert "Who came? Ada 100.00 (none) 0.00" in text
    assert "Why? (none) 0.00 rain 66.67" in text


def test_changed_answers_are_capped() -> None:
    text = Page(render(changes={"native": _CHANGES * 10})).text
    assert "native: 30 results differ from float's; 10 score less, 10 more. Shown: 20" in text
    assert text.count("Who came?") + text.count("Where to?") + text.count("Why?") == 20


def test_layers_in_float() -> None:
    text = Page(render()).text
    assert "on 1003 examples" in text and "got F1 89.90, float has 90.00." in text
    assert "Every layer of the encoder is INT8." in text and "2.50e-06" in text
    figures = {**quantization(tiny.plans()), "float_layers": {"encoder.layer.7.x": 0.125}}
    text = Page(render(quantization=figures)).text
    assert "These layers stay in float: layer sensitivity encoder.layer.7.x 1.25e-01" in text
    assert "Every layer" not in text
    figures["held_out"] = {"total": 0, "verdict": ""}
    assert "Not judged before the evaluation" in Page(render(quantization=figures)).text


def test_nothing_changed() -> None:
    text = Page(render(changes={"native": []})).text
    assert "native: 0 results differ" in text and "INT8's answer" not in text


def test_has_a_plot_with_every_layer() -> None:
    page = Page(render())
    assert page.seen.count("svg") == 1
    # Once on the axis, once in the table.
    name = "encoder.layer.1.intermediate.dense"
    assert render().decode().count(f">{name}<") == 2
    assert page.seen.count("path") > 2 * len(tiny.plans())


def test_scores_have_their_own_part() -> None:
    assert "Confidence" not in Page(render()).text
    scores = np.array([0.25, 0.75, 0.9])
    figures = score_receipt(Confidence(1.5, scores, scores, np.array([0.0, 1.0, 1.0])))
    receipt: dict[str, Any] = {
        **_RECEIPT,
        "float": {**_RECEIPT["float"], "score_calibration": figures},
        "int8": {"openvino": {**_RECEIPT["int8"]["openvino"], "score_calibration": figures}},
    }
    page = Page(render(receipt=receipt))
    assert "Confidence" in page.text and "int8, openvino" in page.text
    assert page.seen.count("svg") == 2
    assert render(receipt=receipt) == render(receipt=receipt)


def test_float_artifact_without_evaluation() -> None:
    page = Page(render(plans={}, receipt=None, changes={}))
    assert "Not measured" in page.text
    assert "Quantized layers" not in page.text and "Gate" not in page.text
    assert "svg" not in page.seen


def test_float_artifact_with_evaluation() -> None:
    receipt = {name: value for name, value in _RECEIPT.items() if name != "int8"}
    text = Page(render(plans={}, receipt=receipt, changes={})).text
    assert "81.28" in text
    assert "Gate" not in text


def test_names_are_text() -> None:
    evil = "<script>alert('&amp;')</script>\"x\""
    plan: LayerPlan = tiny.plans()["encoder.layer.0.output.dense"]
    receipt: dict[str, Any] = {
        **_RECEIPT,
        "dataset": {**_RECEIPT["dataset"], "name": evil},
        "int8": {evil: _RECEIPT["int8"]["openvino"]},
    }
    data = render(
        title=evil,
        fusions={evil: 1},
        provenance={evil: {evil: evil}},
        receipt=receipt,
        plans={evil: dataclasses.replace(plan, name=evil)},
        changes={evil: [Change(evil, evil, evil, 0.0, 0.0)]},
        quantization={**quantization([evil]), "float_layers": {evil: 1.0}},
    )
    page = Page(data)
    assert "script" not in page.seen
    assert page.text.count(evil) >= 13
    assert b"<script" not in data


@pytest.mark.parametrize("errors", [(0.0, 0.0), (0.0, 1e-4), (1e-30, 3.0)])
def test_errors_that_a_logarithm_does_not_like(errors: tuple[float, float]) -> None:
    error, naive_error = errors
    plans = {
        name: dataclasses.replace(plan, error=error, naive_error=naive_error)
        for name, plan in tiny.plans().items()
    }
    assert Page(render(plans=plans)).seen.count("svg") == 1


def test_equal_bytes_every_time() -> None:
    assert render() == render()
