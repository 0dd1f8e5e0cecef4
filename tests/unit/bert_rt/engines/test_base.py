"""What is said of packages that are absent or old."""

from __future__ import annotations

import importlib.metadata

import pytest

from bert_rt.engines.base import missing_package


@pytest.mark.parametrize(
    ("version", "is_too_old"),
    [("1.24.0", True), ("1.24.1", False), ("1.25", False), ("2.0.0", False)],
)
def test_old_libraries_are_named(
    version: str, is_too_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    reason = missing_package("onnxruntime", (1, 24, 1))
    assert (reason is not None) is is_too_old
    if reason is not None:
        assert "onnxruntime is 1.24.0, want at least 1.24.1" in reason


def test_a_library_that_is_absent() -> None:
    reason = missing_package("no-such-thing", (1,), "openvino")
    assert reason == "the package no-such-thing is not installed (pip install 'bert-rt[openvino]')."
