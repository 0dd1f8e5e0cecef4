"""The native engine compiled for macOS, by the clang and the headers that ziglang carries.

Nothing is linked or run: that the code is right there, only a Mac can tell.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tests.cross.support import ROOT, need, run

pytestmark = pytest.mark.slow

# The first system whose C++ library has all that is used.
_SYSTEM = "macos.13.3"


# For Apple silicon zig's clang refuses the options of the ARM64 kernels (-march=armv8.2-a+dotprod).
@pytest.mark.parametrize("processor", ["x86_64"])
def test_macos_compiles_without_a_warning(processor: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        message = "ziglang is not installed (pip install '.[wheels]')"
        if os.environ.get("BERT_RT_REQUIRE_CROSS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    cmake = need("cmake", package="cmake")
    need("ninja", package="ninja-build")
    compiler = f"c++ -target {processor}-{_SYSTEM}"
    for name, words in {"c++": compiler, "ar": "ar", "ranlib": "ranlib"}.items():
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang {words} "$@"\n')
        script.chmod(0o755)
    settings = {
        "CMAKE_AR": str(tmp_path / "ar"),
        "CMAKE_CXX_COMPILER": str(tmp_path / "c++"),
        # Linking would compile the C++ library first.
        "CMAKE_CXX_COMPILER_ID_TEST_FLAGS_FIRST": "-c",
        "CMAKE_RANLIB": str(tmp_path / "ranlib"),
        "CMAKE_SYSTEM_NAME": "Darwin",
        "CMAKE_SYSTEM_PROCESSOR": processor,
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
    }
    build = tmp_path / "build"
    flags = ["-DBERT_RT_PYTHON=OFF", "-DBERT_RT_WERROR=ON"]
    flags += [f"-D{name}={value}" for name, value in settings.items()]
    for command in (
        (cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja", *flags),
        (cmake, "--build", str(build), "--target", "bert_rt_core"),
    ):
        done = run(*command)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    objects = list(build.rglob("*.o"))
    # 64 bits, little-endian, and the number of x86: Mach-O's first eight bytes.
    header = b"\xcf\xfa\xed\xfe\x07\0\0\x01"
    assert {path.read_bytes()[:8] for path in objects} == {header}
    folders = {path.parent.name for path in objects if path.name == "table.cc.o"}
    assert folders > {"scalar"}
