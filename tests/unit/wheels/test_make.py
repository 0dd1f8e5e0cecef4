"""What `make wheels` decides by itself; that its wheels work, it finds out when it runs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

_FOLDER = Path(__file__).resolve().parents[3] / "wheels"
_MODEL = "bert_rt/default_model/model.onnx"
_MODULE = "bert_rt/_native.cpython-311-x86_64-linux-gnu.so"
_NAME = "bert_rt-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(_FOLDER))
    yield importlib.import_module("make")
    for name in ("make", "debian"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "compiler"),
    [
        ("runtime/csrc/isa/avx2/gemm.cc", "kernels"),
        ("runtime/csrc/encoder.cc", "zig"),
        ("runtime/csrc/text/wordpiece.cc", "zig"),
        ("site-packages/nanobind/src/nb_combined.cpp", "zig"),
    ],
)
def test_kernels_are_compiled_by_another_compiler(
    source: str,
    compiler: str,
    make: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(make, "need", lambda *_: "echo kernels")
    monkeypatch.setattr(sys, "executable", "echo zig")
    make.write_toolchain("aarch64", Path("/headers"), tmp_path)
    command = ["-I/src/runtime/csrc", "-o", f"{source}.o", "-c", f"/src/{source}"]
    done = subprocess.run([tmp_path / "c++", *command], capture_output=True, text=True)
    words = done.stdout.split()
    assert words[0] == compiler
    assert words[-len(command) :] == command
    assert ("aarch64-linux-gnu.2.17" in words) is (compiler == "zig")


def test_objects_are_linked_by_zig(
    make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "need", lambda *_: "echo kernels")
    monkeypatch.setattr(sys, "executable", "echo zig")
    make.write_toolchain("x86_64", Path("/headers"), tmp_path)
    command = [tmp_path / "c++", "-shared", "-o", "_native.so", "/runtime/csrc/isa/avx2/gemm.cc.o"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("zig")


@pytest.mark.parametrize(
    ("name", "files", "is_right"),
    [
        (_NAME, [_MODEL, _MODULE], True),
        (_NAME.replace("2_17", "2_36"), [_MODEL, _MODULE], False),
        (_NAME.replace("x86_64", "aarch64"), [_MODEL, _MODULE], False),
        (_NAME.replace("cp311", "cp313"), [_MODEL, _MODULE], False),
        (_NAME, [_MODEL, "runtime/model.onnx", _MODULE], False),
        (_NAME, [_MODEL], False),
        (_NAME, [_MODULE], False),
    ],
)
def test_a_wheel_has_its_tags_one_model_and_one_module(
    name: str, files: list[str], is_right: bool, make: ModuleType, tmp_path: Path
) -> None:
    wheel = tmp_path / name
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in files:
            archive.writestr(file, b"")
    kind = make.KINDS[0]
    if is_right:
        make.check(wheel, kind, "x86_64")
        return
    with pytest.raises(SystemExit, match=r"want it to be|want one model"):
        make.check(wheel, kind, "x86_64")


def test_a_missing_tool_is_named_with_its_package(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(make.MissingToolError, match=r"apt-get install g\+\+-aarch64-linux-gnu"):
        make.write_toolchain("aarch64", Path("/headers"), Path("/absent"))
