"""What the machine takes from a process while it is measured."""

from __future__ import annotations

import sys

import pytest

import bert_rt
from runtime.bench.machine import IssueMeter
from runtime.bench.run import _warnings


def test_issue_width_of_all_threads_and_moments() -> None:
    widths = iter([5.0, 6.0, 2.0, 6.0])
    meter = IssueMeter(2, measure=lambda: next(widths))
    meter.sample()
    meter.sample()
    summary = meter.summary()
    assert summary is not None
    assert summary["median"] == 5.5
    assert 2.0 <= summary["low"] < 3.0
    assert summary["high"] == pytest.approx(6.0)


def test_issue_width_where_it_cannot_be_measured() -> None:
    meter = IssueMeter(1, measure=lambda: 0.0)
    assert meter.summary() is None
    meter.sample()
    assert meter.summary() is None


def test_issue_width_without_the_native_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_rt._native", None)
    monkeypatch.delattr(bert_rt, "_native", raising=False)
    meter = IssueMeter(1)
    meter.sample()
    assert meter.summary() is None


def test_issue_width_of_this_machine() -> None:
    native = pytest.importorskip("bert_rt._native")
    assert 0.5 < native.measure_issue_width() < 16


@pytest.mark.parametrize(("low", "is_shared"), [(2.4, True), (5.7, False)])
def test_a_shared_core_is_reported(low: float, is_shared: bool) -> None:
    width = {"median": 5.5, "low": low, "high": 6.0}
    warnings = _warnings([], {}, other_cpus=0.0, issue_width=width)
    assert [text for text in warnings if "other threads of the same cores" in text] == (
        warnings if is_shared else []
    )
    assert bool(warnings) is is_shared
