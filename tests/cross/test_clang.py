"""The native module built by clang, which macOS has, with warnings as errors."""

from __future__ import annotations

import sys

import pytest

from tests.cross.support import ROOT, build, need, run

pytestmark = pytest.mark.slow


def test_clang_builds_without_a_warning_and_computes_the_same_bits() -> None:
    need("clang++", package="clang")
    driver = build("clang", f"-DPython_EXECUTABLE={sys.executable}")
    assert list(driver.parent.glob("_native*.so"))
    done = run(str(driver), str(ROOT / "tests" / "cpp" / "tiny.onnx"), "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scalar: kernels equal scalar" in done.stdout.splitlines()
