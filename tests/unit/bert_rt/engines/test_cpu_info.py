from __future__ import annotations

import platform
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import bert_rt
from bert_rt.engines import onnxruntime as engine
from bert_rt.engines import openvino as openvino_engine
from bert_rt.engines.cpu_info import CpuInfo, cpu_info, has_exact_int8


def test_the_first_processor_is_read(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: sse2 avx2\n\n"
        "processor\t: 1\nmodel name\t: Other\nflags\t\t: none\n"
    )
    assert cpu_info(file) == CpuInfo("Some CPU", frozenset({"sse2", "avx2"}))


def test_arm64_calls_its_flags_features(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd asimddp i8mm\n")
    assert cpu_info(file).flags == {"fp", "asimd", "asimddp", "i8mm"}


@pytest.mark.parametrize(
    ("machine", "features", "want"),
    [
        ("AMD64", None, {"sse2"}),  # Windows
        ("x86_64", [], {"sse2"}),
        ("x86_64", ["fma", "avx512vnni", "avxvnni"], {"sse2", "fma", "avx512_vnni", "avx_vnni"}),
        ("arm64", ["dotprod", "i8mm"], {"asimddp", "i8mm"}),  # macOS
        ("arm64", None, set()),
    ],
)
def test_without_the_file_the_native_module_is_asked(
    machine: str,
    features: list[str] | None,
    want: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native = None if features is None else SimpleNamespace(cpu_features=lambda: features)
    monkeypatch.setitem(sys.modules, "bert_rt._native", native)
    monkeypatch.setattr(bert_rt, "_native", native, raising=False)
    if native is None:
        monkeypatch.delattr(bert_rt, "_native")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    # A path of its own for each: what was read is kept.
    info = cpu_info(tmp_path / "absent")
    assert info.flags == want
    assert has_exact_int8(info) is (machine == "arm64" or "avx_vnni" in want)


@pytest.mark.parametrize(
    ("flags", "want"),
    [
        ({"sse2", "avx2"}, False),
        ({"sse2", "avx512f", "avx512bw"}, False),
        ({"sse2", "avx512_vnni"}, True),
        ({"sse2", "avx_vnni"}, True),
        ({"asimddp"}, True),
        (set(), True),
    ],
)
def test_x86_without_vnni_saturates(flags: set[str], want: bool) -> None:
    assert has_exact_int8(CpuInfo("", frozenset(flags))) is want


@pytest.mark.parametrize("is_pair_safe", [True, False])
@pytest.mark.parametrize("is_exact", [True, False])
def test_onnxruntime_is_warned_where_products_would_saturate(
    is_exact: bool, is_pair_safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "has_exact_int8", lambda _: is_exact)
    onnxruntime = engine._library()
    entries: dict[str, str] = {}

    def open_nothing(model: bytes, settings: object, **_: object) -> None:
        options = settings
        assert isinstance(options, onnxruntime.SessionOptions)
        try:
            entries["precision"] = options.get_session_config_entry("session.x64quantprecision")
        except RuntimeError:
            entries["precision"] = ""
        raise RuntimeError("seen enough")

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_nothing)
    with pytest.raises(engine.EngineInternalError, match="seen enough"):
        engine.open_session(b"", num_threads=1, is_pair_safe=is_pair_safe)
    assert entries["precision"] == ("" if is_exact or is_pair_safe else "1")


@pytest.mark.parametrize("is_exact", [True, False])
def test_openvino_is_warned_where_products_would_saturate(
    is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_engine, "has_exact_int8", lambda _: is_exact)
    settings = openvino_engine._settings("CPU", 1)
    assert settings.get("LP_TRANSFORMS_MODE") is (None if is_exact else False)
    assert "LP_TRANSFORMS_MODE" not in openvino_engine._settings("GPU.0", 1)
