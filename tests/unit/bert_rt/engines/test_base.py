"""Which engine is chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines import base as engine
from bert_rt.engines.base import EngineInfo, EngineOptions, open_engine
from bert_rt.errors import ConfigError, EngineUnavailableError

_ARTIFACT = cast("Artifact", None)


def _info(name: str, isa: str = "") -> EngineInfo:
    return EngineInfo(name, "1", "cpu", "int8", num_threads=1, is_packed=False, isa=isa)


def _register(monkeypatch: pytest.MonkeyPatch, isas: dict[str, str | None]) -> None:
    """Make engines that run with an instruction set, or lack something (None)."""

    def module(name: str) -> Any:
        return SimpleNamespace(
            missing=lambda artifact, options: "no such thing" if isas[name] is None else None,
            open_engine=lambda artifact, options: SimpleNamespace(
                info=_info(name, isas[name] or "")
            ),
        )

    monkeypatch.setattr(engine, "_module", module)
    monkeypatch.delenv("BERT_RT_ISA", raising=False)


def _chosen(name: str = "auto") -> str:
    return open_engine(name, _ARTIFACT, EngineOptions()).info.name


def test_auto_takes_the_first_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, {"native": "avx2", "onnxruntime": "", "openvino": ""})
    assert _chosen() == "native"
    _register(monkeypatch, {"native": None, "onnxruntime": None, "openvino": ""})
    assert _chosen() == "openvino"


def test_plain_loops_are_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, {"native": "scalar", "onnxruntime": "", "openvino": ""})
    assert _chosen() == "onnxruntime"
    assert _chosen("native") == "native"
    monkeypatch.setenv("BERT_RT_ISA", "scalar")
    assert _chosen() == "native"
    _register(monkeypatch, {"native": "scalar", "onnxruntime": None, "openvino": None})
    assert _chosen() == "native"


def test_a_named_engine_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, {"native": None, "onnxruntime": "", "openvino": ""})
    with pytest.raises(EngineUnavailableError, match="'native' cannot run here: no such thing"):
        _chosen("native")


def test_where_nothing_runs_every_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, dict.fromkeys(("native", "onnxruntime", "openvino")))
    with pytest.raises(EngineUnavailableError, match="native: no such thing; onnxruntime: no"):
        _chosen()


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="unknown name 'tensorrt'; known are auto, native"):
        engine.missing("tensorrt")


@pytest.mark.parametrize(
    ("version", "lacks"), [("1.24.0", True), ("1.24.1", False), ("1.25", False), ("2.0.0", False)]
)
def test_old_libraries_are_named(
    version: str, lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.importlib.metadata, "version", lambda _: version)
    reason = engine.lacks_package("onnxruntime", (1, 24, 1))
    assert (reason is not None) is lacks
    if reason is not None:
        assert "onnxruntime is 1.24.0, want at least 1.24.1" in reason


def test_a_library_that_is_absent() -> None:
    reason = engine.lacks_package("no-such-thing", (1,), "openvino")
    assert reason == "the package no-such-thing is not installed (pip install 'bert-rt[openvino]')."
