"""bert-rt batch on a cluster of this machine; a worker is killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.batch.test_batch import _ROWS, command, rows_done, source  # noqa: F401 (a fixture)
from tests.e2e.cluster.conftest import ROOT, RayCluster, environment

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(300)


def _run(arguments: list[str], timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def test_a_lost_worker_loses_nothing(
    tmp_path: Path,
    artifact_dir: Path,
    source: Path,  # noqa: F811
    ray_cluster: RayCluster,
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    alone = _run(command(artifact_dir, source, whole))
    assert alone.returncode == 0, alone.stderr
    cluster = ("--ray", ray_cluster.address, "--ray_workers", "2")
    process = subprocess.Popen(
        [*command(artifact_dir, source, killed), *cluster],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline_s = time.monotonic() + 150
        while not 0 < rows_done(killed) < _ROWS // 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
        workers = ray_cluster.workers("ray::_Worker")
        # On a busy machine the second one is still starting.
        assert 1 <= len(workers) <= 2
        os.kill(workers[0], signal.SIGKILL)
        assert rows_done(killed) < _ROWS
        out, err = process.communicate(timeout=150)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err
    assert f"{_ROWS:,} rows" in out
    assert "an engine is lost, its rows are computed again" in err
    for name in ("out.jsonl", "bad.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "want"),
    [
        (["--ray", "127.0.0.1:1"], "cannot use the cluster '127.0.0.1:1', want HOST:PORT, auto"),
        (["--ray", "nonsense"], "cannot use the cluster 'nonsense', want HOST:PORT, auto or local"),
        (["--ray_workers", "2"], "ray_workers: got 2, want --ray ADDRESS beside it"),
    ],
)
def test_a_cluster_that_is_none(
    tmp_path: Path,
    artifact_dir: Path,
    source: Path,  # noqa: F811
    flags: list[str],
    want: str,
) -> None:
    result = _run([*command(artifact_dir, source, tmp_path), *flags])
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and want in errors[0], result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_of_its_own_without_room(
    tmp_path: Path,
    artifact_dir: Path,
    source: Path,  # noqa: F811
) -> None:
    run = [*command(artifact_dir, source, tmp_path), "--ray", "local", "--ray_workers", "999"]
    result = _run(run)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "want 999 engines of 1" in errors[0], result.stderr
    assert list(tmp_path.iterdir()) == []


_LOST = """
import os, sys
from bert_rt.errors import EngineInternalError
from runtime.batch import cluster
from runtime.batch.chunks import Chunk

when = sys.argv[2]  # what an actor's sys.argv holds is Ray's

class Dying:
    def __init__(self, artifact, engines):
        if when == "start":
            raise FileNotFoundError("no such model here")
    def compute(self, items):
        os._exit(1)

cluster._Worker, cluster._MAX_LOST = Dying, 2
engines = cluster.Engines(artifact=None, options={}, asked={}, num_threads=1, count=1)
try:
    with cluster.contextlib.closing(cluster.Cluster(sys.argv[1], engines)) as opened:
        list(opened([Chunk(items=[1])]))
except EngineInternalError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("when", "want"), [("start", "FileNotFoundError: no such model here"), ("rows", "")]
)
def test_engines_that_are_lost_again_and_again_end_the_run(
    ray_cluster: RayCluster, when: str, want: str
) -> None:
    result = _run([sys.executable, "-c", _LOST, ray_cluster.address, when])
    assert result.returncode == 1
    *_, error = result.stderr.splitlines()
    assert error.startswith("ray: lost 2 engines and got no result in between: ")
    assert error.endswith(want)
