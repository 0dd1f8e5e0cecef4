"""bert-rt batch and Ray Data on a cluster of this machine; a worker is killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.batch.test_batch import (  # noqa: F401 (fixtures)
    _ROOT,
    _ROWS,
    artifact_dir,
    command,
    rows_done,
    source,
)

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(600)

_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def _workers(group: int) -> list[int]:
    """Return the processes of actors that a session of processes has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                name = (entry / "cmdline").read_bytes()
                if name.startswith(b"ray::_Worker") and os.getsid(int(entry.name)) == group:
                    found.append(int(entry.name))
    return found


def test_a_lost_worker_loses_nothing(tmp_path: Path, artifact_dir: Path, source: Path) -> None:  # noqa: F811
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    alone = subprocess.run(
        command(artifact_dir, source, whole), cwd=_ROOT, capture_output=True, timeout=200
    )
    assert alone.returncode == 0, alone.stderr
    process = subprocess.Popen(
        [*command(artifact_dir, source, killed), "--ray", "local", "--ray_workers", "2"],
        cwd=_ROOT,
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 200
        while not 0 < rows_done(killed) < _ROWS // 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        workers = _workers(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        assert rows_done(killed) < _ROWS
        out, err = process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    assert f"{_ROWS:,} rows" in out
    for name in ("out.jsonl", "bad.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


_DATASET = """
import json, sys, ray, ray.data
import bert_rt.ray
from bert_rt import Runtime

artifact = sys.argv[1]
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
rows = [{"id": i, "q": "who sat?", "c": "the cat sat on the mat " * (1 + i % 3)} for i in range(40)]
rows[7]["q"] = ""
columns = {"question_column": "q", "context_column": "c"}
found = {}
for given in (artifact, bert_rt.ray.put_artifact(artifact)):
    answerer = bert_rt.ray.answerer(
        given, columns=columns, engine="onnxruntime", num_threads=1, on_error="column"
    )
    dataset = ray.data.from_items(rows).map_batches(
        answerer, concurrency=2, num_cpus=1, batch_size=8
    )
    found[str(type(given))] = sorted(dataset.take_all(), key=lambda row: row["id"])
with Runtime.load(artifact, engine="onnxruntime", num_threads=1) as runtime:
    want = [runtime.answer(r["q"], r["c"]).text if r["q"] else None for r in rows]
for result in found.values():
    assert [row["id"] for row in result] == list(range(40))
    assert [row["text"] for row in result] == want, [row["text"] for row in result]
    assert [bool(row["error"]) for row in result] == [i == 7 for i in range(40)]
print("equal", len(found))
"""


def test_ray_data(artifact_dir: Path) -> None:  # noqa: F811
    result = subprocess.run(
        [sys.executable, "-c", _DATASET, str(artifact_dir)],
        cwd=_ROOT,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "equal 2" in result.stdout


def test_a_cluster_without_room(tmp_path: Path, artifact_dir: Path, source: Path) -> None:  # noqa: F811
    run = [*command(artifact_dir, source, tmp_path), "--ray", "local", "--ray_workers", "999"]
    result = subprocess.run(
        run, cwd=_ROOT, env=_ENVIRONMENT, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "want 999 engines of 1" in errors[0]
    assert not json.dumps([path.name for path in tmp_path.iterdir()]).count("part")
