"""What Linux has and macOS or Windows has not: nothing needs it to be imported or to answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.test_house import _PACKAGES, _ROOT, _module
from tests.support.artifacts import write_tiny_artifact

# Takes away what only some systems have, before anything of ours is imported. Libraries that were
# built for this system may need it and come first.
_TAKE_AWAY = """
import builtins, io, os, pathlib, signal, sys
import numpy, onnxruntime, tokenizers
for library in sys.argv[1].split():
    try:
        __import__(library)
    except ImportError:
        pass
for name in ("fcntl", "resource", "pwd", "grp", "termios", "bert_rt._native"):
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sysconf",
             "O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "getuid", "geteuid", "uname", "getpgid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM"):
    delattr(signal, name)
read_text = pathlib.Path.read_text
def no_proc(path, *arguments, **names):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return read_text(path, *arguments, **names)
pathlib.Path.read_text = no_proc
"""
_HEAVY = "matplotlib.figure onnx_ir onnxscript openvino rich torch torch.distributed uvicorn"


def _run(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _TAKE_AWAY + code, _HEAVY, *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_can_be_imported() -> None:
    paths = [path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*.py"))]
    modules = [_module(path) for path in paths if path.name != "__main__.py"]
    code = "import importlib\nfor name in sys.argv[2:]: importlib.import_module(name)\nprint('all')"
    assert _run(code, *modules) == "all\n"


def test_onnxruntime_answers(tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "artifact").path
    code = """
from bert_rt import Runtime
from bert_rt.engines.threads import available_cpus, cpu_budget
with Runtime.load(sys.argv[2]) as runtime:
    answer = runtime.answer("Where do bees live?", "Bees make honey. They live in a hive.")
    print(runtime.info.name, answer.text in "Bees make honey. They live in a hive.")
budget = cpu_budget()
print(budget.affinity_cpus == available_cpus() == os.cpu_count(), budget.quota_cpus)
"""
    assert _run(code, str(artifact)).splitlines() == ["onnxruntime True", "True None"]


@pytest.mark.parametrize("module", ["runtime.doctor", "runtime.demo"])
def test_commands_run(module: str) -> None:
    code = (
        f"import runpy\nsys.argv = ['{module}']\nrunpy.run_module('{module}', run_name='__main__')"
    )
    assert "onnxruntime" in _run(code)
