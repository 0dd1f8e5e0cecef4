"""One cluster of Ray for all tests here: it starts in seconds, but there are many tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.artifacts import write_tiny_artifact

ROOT = Path(__file__).parents[3]

# A cluster asks its clients for a token. This one is the tests' own: no file of the user's is read.
_TOKEN = uuid.uuid4().hex

# It ends with its standard input. More cores than there are: engines of tests do little.
_CLUSTER = """
import sys, ray
ray.init(
    address="local", num_cpus=6, include_dashboard=False, log_to_driver=False,
    object_store_memory=200 * 2**20,
)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@dataclass(frozen=True)
class RayCluster:
    """A cluster of one machine.

    Attributes:
        address: HOST:PORT.
        session: The session of processes that all of its processes are in.
    """

    address: str
    session: int

    def workers(self, prefix: str) -> list[int]:
        """Return the processes whose name begins so, such as "ray::_Worker"."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    name = (entry / "cmdline").read_bytes()
                    is_ours = os.getsid(int(entry.name)) == self.session
                    if is_ours and name.startswith(prefix.encode()):
                        found.append(int(entry.name))
        return sorted(found)


def environment() -> dict[str, str]:
    """Return the environment of programs that use Ray."""
    ours = {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's default is 15: on a busy machine an engine then takes minutes to start.
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "120",
    }
    return {**os.environ, **ours}


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray")
    process = subprocess.Popen(
        [sys.executable, "-c", _CLUSTER],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert ":" in address
        yield RayCluster(address, process.pid)
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(120)
        process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="package")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cluster") / "artifact"
    write_tiny_artifact(path)
    return path
