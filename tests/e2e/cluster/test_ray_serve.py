"""docs/serving/ray.yaml on a cluster: a replica is killed under load; too much is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from bert_rt import Runtime
from tests.e2e.cluster.conftest import ROOT, RayCluster, environment
from tests.support.artifacts import PAIRS

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(300)

_REQUESTS = 1000


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def _ask(port: int, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, data, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


@pytest.fixture(scope="module")
def port(
    tmp_path_factory: pytest.TempPathFactory, artifact_dir: Path, ray_cluster: RayCluster
) -> Iterator[int]:
    """Run the documented file, with the tests' model and a second application without room."""
    config = yaml.safe_load((ROOT / "docs" / "serving" / "ray.yaml").read_text())
    config["http_options"]["port"] = _free_port()
    (squad,) = config["applications"]
    squad["args"] |= {"artifact": str(artifact_dir), "engine": "onnxruntime", "num_threads": 1}
    squad["args"] |= {"min_replicas": 2, "max_replicas": 2}
    narrow = {
        **squad,
        "name": "narrow",
        "route_prefix": "/narrow",
        "args": {
            **squad["args"],
            "name": "narrow",
            "min_replicas": 1,
            "max_replicas": 1,
            "max_ongoing_requests": 1,
            "max_queued_requests": 1,
        },
    }
    config["applications"].append(narrow)
    path = tmp_path_factory.mktemp("serve") / "ray.yaml"
    path.write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.serve.scripts", "run", "-a", ray_cluster.address, str(path)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
    reader.start()
    found: int = config["http_options"]["port"]
    try:
        deadline_s = time.monotonic() + 200
        while not (_is_ready(found, "/squad") and _is_ready(found, "/narrow")):
            assert process.poll() is None and time.monotonic() < deadline_s, lines[-20:]
            time.sleep(0.2)
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        # Ray ends actor by actor. Now and then its command does not come back from that; what it
        # leaves ends with the cluster.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def _is_ready(port: int, prefix: str) -> bool:
    try:
        return _ask(port, f"{prefix}/health")[0] == 200
    except OSError:
        return False


def test_a_killed_replica_costs_no_answer(
    port: int, artifact_dir: Path, ray_cluster: RayCluster
) -> None:
    with Runtime.load(artifact_dir, engine="onnxruntime", num_threads=1) as runtime:
        want = [runtime.answer(question, context) for question, context in PAIRS]
    first_tries: Counter[int] = Counter()
    num_begun = 0
    lock = threading.Lock()

    def answer(index: int) -> dict[str, Any]:
        nonlocal num_begun
        with lock:
            num_begun += 1
            if num_begun == _REQUESTS // 2:
                replicas = ray_cluster.workers("ray::ServeReplica:squad")
                assert len(replicas) == 2
                os.kill(replicas[0], signal.SIGKILL)
        question, context = PAIRS[index % len(PAIRS)]
        for retry in range(30):
            # Whatever comes is a whole response: http.client raises for anything else.
            status, body, _ = _ask(
                port, "/squad/v1/answer", {"question": question, "context": context}
            )
            with lock:
                first_tries[status] += retry == 0
            if status == 200:
                found: dict[str, Any] = json.loads(body)["answers"][0]
                return found
            assert status in (429, 500, 503), (status, body)
            time.sleep(0.2)
        raise AssertionError("no retry succeeded")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(answer, range(_REQUESTS)))
    assert first_tries.total() == _REQUESTS
    # At most those that the killed replica had.
    assert first_tries[200] >= _REQUESTS - 16, first_tries
    for index, found in enumerate(answers):
        expected = want[index % len(PAIRS)]
        assert (found["text"], found["start"]) == (expected.text, expected.start)
        assert found["score"] == pytest.approx(expected.score, abs=1e-5)
    deadline_s = time.monotonic() + 100
    while len(ray_cluster.workers("ray::ServeReplica:squad")) < 2:  # Ray starts another one
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def test_the_service_is_mounted(port: int) -> None:
    status, body, headers = _ask(port, "/squad/v1/answer", {"question": " ", "context": "x"})
    assert status == 400 and json.loads(body)["code"] == "EmptyInputError"
    assert headers["X-Request-ID"]
    models = json.loads(_ask(port, "/squad/v1/models")[1])
    assert "squad" in json.dumps(models) and "narrow" not in json.dumps(models)
    assert b"bert_rt_queue_tokens" in _ask(port, "/squad/metrics")[1]


def test_too_much_is_refused_with_429(port: int) -> None:
    body = {"question": PAIRS[0][0], "context": PAIRS[0][1] * 200}
    with ThreadPoolExecutor(24) as pool:
        responses = list(pool.map(lambda _: _ask(port, "/narrow/v1/answer", body), range(48)))
    counts = Counter(status for status, _, _ in responses)
    assert set(counts) == {200, 429}
    assert all(headers["Retry-After"] for status, _, headers in responses if status == 429)
