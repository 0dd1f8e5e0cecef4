"""Ctrl-C and SIGTERM end a command with one line and its exit code, and leave no file behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bert_rt.artifact.artifact import load_artifact
from bert_rt.support.cli import run_command
from compile import export
from tests.support import interrupted
from tests.support.training import make_squad
from tests.unit.compile import tiny

_ROOT = Path(__file__).parents[2]
_ENDS = [
    ("SIGINT", 130, "interrupted"),
    ("SIGTERM", 143, "ended by SIGTERM"),
    ("SIGHUP", 129, "ended by SIGHUP"),
]


def _run(tmp_path: Path, name: str, place: str, *command: object) -> tuple[int, list[str]]:
    """Run a command that a signal meets; return its exit code and what it printed on stderr."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, interrupted.__file__, name, place, *map(str, command)],
        cwd=_ROOT,
        # A library may keep its caches in the home directory; that is no temporary file.
        env={**environment, "TMPDIR": str(temporary), "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert list(temporary.iterdir()) == []
    return result.returncode, result.stderr.splitlines()


def _export_flags(output_dir: Path) -> list[object]:
    checkpoint = tiny.exports().checkpoint
    return ["--model_name_or_path", checkpoint, "--output_dir", output_dir, *tiny.LIMIT_FLAGS]


@pytest.mark.parametrize(
    ("place", "name", "code", "line"),
    [
        ("torch.onnx:export", *_ENDS[1]),  # while the model is traced
        ("bert_rt.support.files:_sync_tree", *_ENDS[0]),  # while the artifact is written
    ],
)
def test_an_export_leaves_nothing(
    tmp_path: Path, place: str, name: str, code: int, line: str
) -> None:
    out = tmp_path / "out"
    got, err = _run(tmp_path, name, place, "compile.export", *_export_flags(out / "deep" / "art"))
    assert (got, err[-1]) == (code, line)
    assert not any("Traceback" in one for one in err)
    assert not out.exists()


@pytest.mark.parametrize(
    "place", ["bert_rt.support.files:_sync_tree", "os:rename", "shutil:rmtree"]
)
def test_an_artifact_that_is_being_replaced_is_the_old_one_or_the_new_one(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compile.tasks.base.trace", lambda loaded: tiny.traced())
    art = tmp_path / "art"
    flags = [str(flag) for flag in _export_flags(art)]
    assert run_command(export.main, flags) == 0
    before = {path.name: path.read_bytes() for path in art.iterdir()}
    module_name, name = place.split(":")
    module = sys.modules[module_name]
    function = getattr(module, name)
    calls = []

    def send(*args: object, **kwargs: object) -> object:
        if not calls:
            calls.append(args)
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, send)
        assert run_command(export.main, flags) == 143
    assert calls
    assert {path.name: path.read_bytes() for path in art.iterdir()}.keys() == before.keys()
    load_artifact(art)
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


@pytest.mark.parametrize(("name", "code", "line"), _ENDS)
def test_a_benchmark_leaves_nothing(tmp_path: Path, name: str, code: int, line: str) -> None:
    exports = tiny.exports()
    make_squad(tmp_path / "dev.json", num_contexts=4)
    got, err = _run(
        *(tmp_path, name, "runtime.bench.peers.onnxruntime:_quiet"),
        *("runtime.bench", "--artifact", exports.int8_dir, "--float_artifact", exports.float_dir),
        *("--data", tmp_path / "dev.json", "--engines", "native,onnxruntime"),
        *("--limit", 6, "--rounds", 1, "--json", tmp_path / "new" / "result.json"),
    )
    assert (got, err[-1]) == (code, line)
    assert not any("Traceback" in one for one in err)
    assert not (tmp_path / "new").exists()


def test_two_exports_into_one_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    art = tmp_path / "art"
    flags = [str(flag) for flag in _export_flags(art)]
    runs = []

    def trace(_loaded: object) -> object:
        # While the first run is at work, the second one begins and ends.
        runs.append("second" if runs else "first")
        if runs == ["first"]:
            assert run_command(export.main, flags) == 0
            (tmp_path / "won").write_bytes((art / "manifest.json").read_bytes())
        return tiny.traced()

    monkeypatch.setattr("compile.tasks.base.trace", trace)
    assert run_command(export.main, flags) == 2
    assert runs == ["first", "second"]
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == (
        f"error: {art}: the artifact cannot be written: another process has written there since "
        "this one began, and what it wrote stays"
    )
    assert (art / "manifest.json").read_bytes() == (tmp_path / "won").read_bytes()
    load_artifact(art)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["art", "won"]
