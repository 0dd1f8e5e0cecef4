"""Which engines there are, and which one "auto" takes on which class of CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines import measured, registry
from bert_rt.engines.base import EngineInfo, EngineOptions, EngineSpec
from bert_rt.engines.measured import CPU_CLASSES, CpuClass, cpu_class
from bert_rt.engines.registry import (
    choose,
    engine_names,
    engine_packages,
    engine_spec,
    judged_engines,
    open_engine,
    register,
)
from bert_rt.errors import ConfigError, EngineUnavailableError
from bert_rt.support.cli import run_command
from runtime import doctor
from runtime.bench.peers.registry import PEERS
from runtime.loading import add_runtime_flags

_ROOT = Path(__file__).parents[4]
_ARTIFACT = cast("Artifact", SimpleNamespace(manifest=SimpleNamespace(decoder=None)))


def make_engine(name: str, rank: int | None, reason: str | None = None) -> Any:
    """Make what stands for an engine's module, which can run where no reason is given."""
    info = EngineInfo(name, "1", "cpu", "int8", num_threads=1, is_packed=False)
    return SimpleNamespace(
        SPEC=EngineSpec(
            name=name, rank=rank, fork="reopens", precisions=("int8",), devices=("cpu",)
        ),
        missing=lambda artifact, options: reason,
        open_engine=lambda artifact, options: SimpleNamespace(info=info, close=lambda: None),
    )


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let the test change the registry."""
    table = dict(registry._ENGINES)
    monkeypatch.setattr(registry, "_ENGINES", table)
    return table


def _stand_in(
    monkeypatch: pytest.MonkeyPatch, row: CpuClass | None, reasons: Mapping[str, str] = {}
) -> None:
    """Replace the engines by ones that open nothing, of the same ranks, on a class of CPU."""
    for name in engine_names():
        register(make_engine(name, engine_spec(name).rank, reasons.get(name)))
    monkeypatch.setattr(registry, "cpu_class", lambda: row)


def _chosen(name: str = "auto") -> str:
    return open_engine(name, _ARTIFACT, EngineOptions()).info.name


def test_specs_are_of_their_names_and_import_no_library() -> None:
    for name in engine_names():
        spec = engine_spec(name)
        assert spec.name == name and spec.precisions and "cpu" in spec.devices
    assert {*PEERS} < {*engine_names()}
    assert {"onnx", "torch", "safetensors"} < {*engine_packages()}
    code = (
        "import sys; from bert_rt.engines.registry import engine_packages; "
        "packages = engine_packages(); sys.exit(len([p for p in packages if p in sys.modules]))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=_ROOT, timeout=60).returncode == 0


def test_float_is_judged_on_the_first_engine() -> None:
    *some, last = judged_engines()
    assert last == "native"
    assert all("float32" in engine_spec(name).precisions for name in some)
    assert {*judged_engines()} == {n for n in engine_names() if engine_spec(n).rank is not None}


@pytest.mark.parametrize("name", CPU_CLASSES)
def test_every_class_has_its_quickest(
    name: str, engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = CPU_CLASSES[name]
    _stand_in(monkeypatch, row)
    assert _chosen() == ("onnxruntime" if name == "scalar" else "native")
    assert _chosen("native") == "native"
    if row.ratio is not None:
        # Where the table says that native is slower, "auto" must not take it.
        assert (row.ratio > 1) is (_chosen() == "native")
        text = (_ROOT / row.page).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if f"native/{row.against} |" in line]
        line = next(line for line in lines if "| text_to_answer |" in line)
        assert f"{name}, as Runtime.load opens it" in line
        assert float(line.split("|")[3]) == pytest.approx(row.ratio, abs=0.006)
        assert row.page in row.describe() and row.against in engine_names()
    else:
        assert row.page == row.against == ""
        assert row.describe() == (row.reason or "not measured")


def test_every_instruction_set_is_a_class() -> None:
    native = pytest.importorskip("bert_rt._native")
    assert {*native.build_info()["compiled_isas"]} <= {*CPU_CLASSES}


def test_plain_loops_are_the_last_resort(
    engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scalar = CPU_CLASSES["scalar"]
    _stand_in(monkeypatch, scalar)
    choice = choose(_ARTIFACT, EngineOptions())
    assert choice.passed_over == {
        "native": f"it is not the quickest on this class of CPU (scalar): {scalar.reason}"
    }
    _stand_in(monkeypatch, scalar, dict.fromkeys(("openvino",), "no such thing"))
    assert _chosen() == "onnxruntime"
    _stand_in(monkeypatch, scalar, dict.fromkeys({*engine_names()} - {"native"}, "no such thing"))
    assert _chosen() == "native"


@pytest.mark.parametrize("name", CPU_CLASSES)
def test_whoever_forces_an_instruction_set_gets_the_native_engine(
    name: str, engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bert_rt._native")
    monkeypatch.setenv("BERT_RT_ISA", name)
    row = cpu_class()
    assert row is not None and row.name == name
    _stand_in(monkeypatch, row)
    assert _chosen() == "native"


def test_the_class_is_that_of_the_native_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("bert_rt._native")
    monkeypatch.delenv("BERT_RT_ISA", raising=False)
    assert cpu_class() is CPU_CLASSES[native.supported_isas()[0]]
    monkeypatch.setitem(sys.modules, "bert_rt._native", None)
    monkeypatch.delattr("bert_rt._native")
    assert measured.cpu_class() is None


def test_an_engine_that_cannot_run_is_passed_over(
    engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(monkeypatch, None, {"native": "no such thing"})
    choice = choose(_ARTIFACT, EngineOptions())
    assert (choice.name, choice.passed_over) == ("onnxruntime", {"native": "no such thing"})
    with pytest.raises(EngineUnavailableError, match="'native' cannot run here: no such thing"):
        _chosen("native")


def test_where_nothing_runs_every_reason_is_given(
    engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(monkeypatch, None, dict.fromkeys(engine_names(), "no such thing"))
    with pytest.raises(EngineUnavailableError, match="native: no such thing; onnxruntime: no"):
        _chosen()


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="unknown name 'tensorrt'; known are auto, native"):
        registry.missing("tensorrt")


@pytest.mark.parametrize("name", CPU_CLASSES)
def test_an_engine_of_the_best_rank_is_chosen_everywhere(
    name: str, engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _stand_in(monkeypatch, CPU_CLASSES[name])
    register(make_engine("toy", rank=0))
    assert _chosen() == "toy"
    register(make_engine("toy", rank=None))
    assert _chosen() != "toy"


def test_a_registered_engine_is_offered_and_shown(
    engines: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import argparse

    register(make_engine("toy", rank=0))
    parser = argparse.ArgumentParser()
    add_runtime_flags(parser)
    assert "toy" in parser.format_help()
    assert _chosen("toy") == "toy"
    assert "toy" in judged_engines()
    assert run_command(doctor.main, []) == 0
    out = capsys.readouterr().out
    assert "engine     toy: can run\n" in out
    assert "auto       toy 1, 1 threads\n" in out


def test_doctor_says_class_ratio_and_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = CPU_CLASSES["avx512vnni"]
    monkeypatch.setattr(registry, "cpu_class", lambda: row)
    assert run_command(doctor.main, []) == 0
    assert (
        "cpu class  avx512vnni: measured: native has 1.67 times the throughput of onnxruntime "
        "(benchmarks/results/2026-12-01-bench-minilm-vnni.md)\n"
    ) in capsys.readouterr().out


def test_doctor_says_why_native_is_not_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bert_rt._native")
    monkeypatch.setattr(registry, "cpu_class", lambda: CPU_CLASSES["scalar"])
    assert run_command(doctor.main, []) == 0
    out = capsys.readouterr().out
    assert "auto       onnxruntime " in out
    assert "not native: it is not the quickest on this class of CPU (scalar): " in out
    assert "cpu class  scalar: the native engine has no vector code" in out
