"""bert-rt batch as a process: killed at random moments, on an endless file, on a full disk."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.artifacts import PAIRS, write_tiny_artifact

_ROOT = Path(__file__).parents[3]
_ROWS = 1200
# Chunks of a few rows, each put onto the disk at once, so that a kill meets every kind of moment.
_SMALL = (
    "import sys; from runtime.batch import __main__ as m, chunks, run; "
    "chunks._MAX_ROWS = 8; run._COMMIT_S = 0.0; "
    "from bert_rt.support.cli import run_command; sys.exit(run_command(m.main, sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batch") / "artifact"
    write_tiny_artifact(path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("batch") / "in.jsonl"
    with path.open("w") as file:
        for index in range(_ROWS):
            question, context = PAIRS[index % len(PAIRS)]
            row = {"id": index, "question": question, "context": context + " x" * (index % 60)}
            file.write("nonsense\n" if index % 97 == 50 else json.dumps(row) + "\n")
    return path


def command(artifact: Path, source: Path, place: Path, *code: str) -> list[str]:
    files = ("--input", source, "--output", place / "out.jsonl", "--errors", place / "bad.jsonl")
    flags = ("--artifact", artifact, "--engine", "onnxruntime", "--num_threads", 1)
    return [sys.executable, *(code or ("-c", _SMALL)), *map(str, (*files, *flags))]


def rows_done(place: Path) -> int:
    try:
        lines = (place / "out.jsonl.journal").read_bytes().splitlines()
        return int(json.loads(lines[-1]).get("rows", 0))
    except (OSError, ValueError, IndexError):
        return 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_at_five_random_moments(tmp_path: Path, artifact_dir: Path, source: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = command(artifact_dir, source, whole)
    subprocess.run(run, cwd=_ROOT, check=True, capture_output=True, timeout=200)
    generator = random.Random(24)
    places = []
    for kill in range(5):
        process = subprocess.Popen(
            command(artifact_dir, source, killed), cwd=_ROOT, stderr=subprocess.DEVNULL
        )
        wanted = rows_done(killed) + generator.randint(1, _ROWS // 8)
        deadline_s = time.monotonic() + 100
        while rows_done(killed) < wanted and process.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.01))
        assert process.poll() is None, f"ended before kill {kill}"
        process.kill()
        assert process.wait() == -signal.SIGKILL
        places.append(rows_done(killed))
    assert places[0] > 0 and places == sorted(places) and places[-1] < _ROWS
    result = subprocess.run(
        command(artifact_dir, source, killed),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr
    assert f"{places[-1]:,} of them by earlier runs" in result.stdout
    for name in ("out.jsonl", "bad.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert (whole / "out.jsonl").read_bytes().count(b"\n") > _ROWS * 0.98


def test_a_full_disk_is_one_line(tmp_path: Path, artifact_dir: Path, source: Path) -> None:
    run = command(artifact_dir, source, tmp_path)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = subprocess.run(
        run, cwd=_ROOT, capture_output=True, text=True, timeout=200, preexec_fn=limited
    )
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if not line.startswith("batch: ")]
    assert errors == [f"error: {tmp_path / 'out.jsonl.part'}: File too large"]
    assert 0 < rows_done(tmp_path) < _ROWS
    again = subprocess.run(run, cwd=_ROOT, capture_output=True, timeout=200)
    assert again.returncode == 0
    ids = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert ids == [index for index in range(_ROWS) if index % 97 != 50]


_MEASURED = (
    "import sys, threading, time; from tests.support.memory import resident_mib; "
    "from bert_rt.support.cli import run_command; from runtime.batch.__main__ import main\n"
    "def watch():\n"
    "    while True:\n"
    "        print(f'{resident_mib():.1f}', flush=True); time.sleep(0.2)\n"
    "threading.Thread(target=watch, daemon=True).start()\n"
    "sys.exit(run_command(main, sys.argv[1:]))"
)


def test_an_endless_stream_takes_constant_memory(tmp_path: Path, artifact_dir: Path) -> None:
    """Rows through a pipe; what is kept of them would be seen."""
    files = ("--input", "-", "--output", os.devnull)
    flags = ("--artifact", artifact_dir, "--engine", "onnxruntime", "--num_threads", 1)
    process = subprocess.Popen(
        [sys.executable, "-c", _MEASURED, *map(str, (*files, *flags))],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    # Long fields that nobody reads: 200 MB in 400 rows.
    row = json.dumps({"question": "who?", "context": "the cat", "image": "x" * 500_000}) + "\n"
    for _ in range(400):
        process.stdin.write(row)
    process.stdin.close()
    lines = [line.strip() for line in process.stdout]
    figures = [float(line) for line in lines if line.replace(".", "", 1).isdigit()]
    process.stdout.close()
    assert process.wait() == 0
    # Not counting its start; a chunk is bounded by its bytes as well as its rows.
    assert max(figures) < 400
    assert figures[-1] < figures[len(figures) // 3] + 60
