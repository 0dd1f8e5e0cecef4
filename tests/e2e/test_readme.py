"""README is true: its Python runs, its commands exist and take the flags that it shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()
_BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)


def _shell_lines() -> list[str]:
    text = "\n".join(block for language, block in _BLOCKS if language in ("bash", "sh"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [line for line in lines if line.strip()]


def _commands() -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in _shell_lines()]
    return [line for line in lines if line[:2] == ["python", "-m"]]


def _make_targets() -> list[str]:
    return [line.split()[1] for line in _shell_lines() if line.startswith("make ")]


def test_there_is_something_to_test() -> None:
    assert {"runtime.answer", "compile.export"} <= {command[2] for command in _commands()}
    assert {"demo", "test"} <= set(_make_targets())


@pytest.mark.parametrize("code", [block for language, block in _BLOCKS if language == "python"])
def test_python_blocks_run(code: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue().startswith("Karl von Frisch 0.")


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_commands_take_the_flags_that_are_shown(command: list[str]) -> None:
    shown = [word for word in command if word.startswith("--")]
    result = subprocess.run(
        [sys.executable, *command[1:3], "--help"], cwd=_ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    known = set(re.findall(r"--\w+", result.stdout))
    assert set(shown) <= known


def test_the_first_command_answers(tmp_path: Path) -> None:
    command = next(command for command in _commands() if command[2] == "runtime.answer")
    passage = tmp_path / "passage.txt"
    passage.write_text("The Iliad is an ancient poem. It was written by Homer.")
    words = [str(passage) if word == "passage.txt" else word for word in command[1:]]
    result = subprocess.run([sys.executable, *words], cwd=_ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert '"text": "Homer"' in result.stdout


@pytest.mark.parametrize("target", _make_targets())
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (_ROOT / "Makefile").read_text(), re.MULTILINE)
