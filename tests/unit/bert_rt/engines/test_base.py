"""What is said of packages that are absent or old."""

from __future__ import annotations

import importlib.metadata

import pytest

from bert_rt.engines.base import lacks_package


@pytest.mark.parametrize(
    ("version", "lacks"), [("1.24.0", True), ("1.24.1", False), ("1.25", False), ("2.0.0", False)]
)
def test_old_libraries_are_named(
    version: str, lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    reason = lacks_package("onnxruntime", (1, 24, 1))
    assert (reason is not None) is lacks
    if reason is not None:
        assert "onnxruntime is 1.24.0, want at least 1.24.1" in reason


def test_a_library_that_is_absent() -> None:
    reason = lacks_package("no-such-thing", (1,), "openvino")
    assert reason == "the package no-such-thing is not installed (pip install 'bert-rt[openvino]')."
