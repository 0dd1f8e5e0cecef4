"""Compilers that only CI has for sure: found, or the test is skipped and says what is missing.

With BERT_RT_REQUIRE_CROSS=1, which .ci/run sets where it installed them, a missing one is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["ROOT", "build", "need", "run"]

ROOT = Path(__file__).resolve().parents[2]


def need(*programs: str, package: str) -> str:
    """Find a program.

    Args:
        programs: Its names; the first one found is taken.
        package: Debian's package of it, for the message.

    Returns:
        Its path.
    """
    for program in programs:
        path = shutil.which(program)
        if path is not None:
            return path
    message = f"{programs[0]} is not installed (on Debian: apt-get install {package})"
    if os.environ.get("BERT_RT_REQUIRE_CROSS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program from the repository's root, with more environment variables; output is kept."""
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    )


def build(preset: str, *settings: str) -> Path:
    """Configure and build a preset of CMakePresets.json, in build/<preset>.

    Args:
        preset: Its name.
        settings: More arguments of cmake's configuration.

    Returns:
        The driver.
    """
    cmake = need("cmake", package="cmake")
    need("ninja", package="ninja-build")
    for command in ((cmake, "--preset", preset, *settings), (cmake, "--build", "--preset", preset)):
        done = run(*command)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return ROOT / "build" / preset / "bert_rt_driver"
