"""The server as a process, over real sockets: faults of clients, of the network and of engines."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bert_rt.api import Runtime
from runtime.serve.flags import ENV_PREFIX
from tests.support.artifacts import PAIRS, write_tiny_artifact, write_tiny_classifier
from tests.support.serving.server import (
    FAILS,
    HANGS,
    IS_SLOW,
    Served,
    read_all,
    served,
)

QUESTION, CONTEXT = PAIRS[0]
BODY = {"question": QUESTION, "context": CONTEXT}
MARKER = "zebramarker"
_MAX_BODY = 2**20
_IDLE = 10_000


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "squad"
    write_tiny_artifact(path)
    return path


@pytest.fixture(scope="module")
def faulty(artifact: Path) -> Iterator[Served]:
    """A server with short deadlines whose engine has faults."""
    options = {
        "header_timeout_s": 1.0,
        "body_timeout_s": 1.5,
        "max_body_bytes": _MAX_BODY,
        "max_unpacked_bytes": 2 * _MAX_BODY,
    }
    with served(["tests.support.serving.server", str(artifact), json.dumps(options)]) as server:
        yield server


def _answered(server: Served) -> None:
    assert server.ask("/v1/answer", BODY)[0] == 200


def _eventually(claim: Callable[[], bool], seconds: float = 10) -> None:
    deadline_s = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def _asking(word: str, **fields: Any) -> dict[str, Any]:
    return {"question": QUESTION, "context": f"the cat {word} sat", **fields}


def _figure(server: Served, name: str) -> float:
    text = server.ask("/metrics")[1].decode()
    return float(re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[0])


def _head(length: int) -> bytes:
    return (
        f"POST /v1/answer HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_the_command_serves_two_models_that_may_change_on_disk(
    artifact: Path, tmp_path: Path
) -> None:
    paths = {"squad": tmp_path / "a", "mood": tmp_path / "b"}
    write_tiny_artifact(paths["squad"])
    write_tiny_classifier(paths["mood"])
    with Runtime.load(artifact, engine="onnxruntime") as runtime:
        want = runtime.answer(QUESTION, CONTEXT)
    environ = {ENV_PREFIX + "PORT": "0", ENV_PREFIX + "TOKEN": "t"}
    named = [f"--artifact={name}={path}" for name, path in paths.items()]
    command = ["runtime.serve", *named, "--engine", "onnxruntime", "--num-threads", "1"]
    token = {"Authorization": "Bearer t"}
    with served(command, **environ) as server:
        for _ in range(2):
            status, body, _ = server.ask("/v1/answer", BODY, token)
            assert (status, body["answers"][0]["text"]) == (200, want.text)
            status, body, _ = server.ask("/v1/classify", {"text": CONTEXT}, token)
            assert (status, body["model"]) == (200, "mood")
            for path in paths.values():  # Another model now, and then none.
                for file in path.iterdir():
                    file.write_bytes(b"another model")
        assert server.ask("/v1/answer", BODY)[0] == 401
        _many_idle_connections(server, token)
    assert server.process.returncode == 0
    entries = [json.loads(line) for line in server.logs]
    assert any(entry.get("status") == 401 for entry in entries)


def _many_idle_connections(server: Served, token: dict[str, str]) -> None:
    """Hold ten thousand connections, or as many as this machine allows, and ask on another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    try:
        while len(idle) < count:
            idle.append(server.connect())
        assert server.ask("/v1/answer", BODY, token)[0] == 200
        assert server.ask("/health")[0] == 200
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_heads_and_bodies_are_ended(faulty: Served) -> None:
    for data in (b"POST /v1/ans", _head(10)[:-2], _head(10) + b'{"ques'):
        with faulty.connect() as connection:
            connection.sendall(data)
            began_s = time.monotonic()
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
            assert time.monotonic() - began_s < 8
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body)["code"] == "RequestTimeoutError"
    with faulty.connect() as connection:
        assert read_all(connection) == b""
    # A trickle does not put the deadline off.
    with faulty.connect() as connection:
        connection.sendall(_head(1000))
        began_s = time.monotonic()
        connection.settimeout(0.05)
        data = b""
        while not data:
            assert time.monotonic() - began_s < 8
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                data = connection.recv(1000)
    assert data.startswith(b"HTTP/1.1 408 ")
    _answered(faulty)


def test_each_request_of_a_connection_has_its_own_deadline(faulty: Served) -> None:
    with faulty.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while not data.endswith(b"}"):
            data += connection.recv(65536)
        assert data.startswith(b"HTTP/1.1 200 ")
        time.sleep(0.7)  # the first one's deadline is near
        connection.sendall(b"POST /v1/ans")
        began_s = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
        assert 0.9 < time.monotonic() - began_s < 8


def test_what_is_no_http_is_refused_as_json(faulty: Served) -> None:
    for data, status in (
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000, 431),
        (b"GET /" + b"x" * 200_000, 431),
    ):
        with faulty.connect() as connection:
            connection.sendall(data)
            head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert sorted(json.loads(body)) == ["code", "error", "request_id"]
    _answered(faulty)


def test_huge_bodies_are_refused_and_not_kept(faulty: Served) -> None:
    before = faulty.peak_mib()
    size = 100 * 2**20
    block = bytes(2**20)
    connection = http.client.HTTPConnection("127.0.0.1", faulty.port, timeout=30)
    connection.putrequest("POST", "/v1/answer")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for _ in range(100):
        connection.send(block)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (413, "PayloadTooLargeError")
    connection.close()
    chunks = (block for _ in range(4))  # Without a length nobody knows it before.
    connection = http.client.HTTPConnection("127.0.0.1", faulty.port, timeout=30)
    connection.request("POST", "/v1/answer", chunks, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 413
    connection.close()
    bomb = gzip.compress(bytes(200 * 2**20), 9)
    assert len(bomb) < _MAX_BODY
    status, body, _ = faulty.ask("/v1/answer", bomb, {"Content-Encoding": "gzip"})
    assert (status, body["code"]) == (413, "PayloadTooLargeError")
    assert faulty.peak_mib() - before < 50
    _answered(faulty)


def test_strange_bodies_over_the_wire(faulty: Served) -> None:
    for data, headers, status in (
        (b'{"question": "\xff"}', {}, 400),
        (b'{"question":' + b"[" * 200_000, {}, 400),
        (json.dumps({**BODY, "extra": 1}).encode(), {}, 400),
        (json.dumps(BODY).encode(), {"Content-Type": "text/html"}, 415),
        (b"{}", {"Content-Encoding": "br"}, 415),
    ):
        got, body, response = faulty.ask("/v1/answer", data, headers)
        assert got == status
        assert body["request_id"] == response.headers["X-Request-ID"]
    with faulty.connect() as connection:  # tritonclient sends no Content-Type
        data = json.dumps(BODY).encode()
        head = (
            f"POST /v1/answer HTTP/1.1\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + data)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_whoever_hangs_up_costs_nothing_more(faulty: Served) -> None:
    name = 'bert_rt_requests_total{code="499",model="squad",task="question-answering"}'
    before = _figure(faulty, name)
    data = json.dumps({"question": [QUESTION] * 60, "context": f"the cat {IS_SLOW}"}).encode()
    connections = [faulty.connect() for _ in range(8)]
    for connection in connections:
        connection.sendall(_head(len(data)) + data)
    _eventually(lambda: _figure(faulty, 'bert_rt_queue_depth{model="squad"}') > 0)
    for connection in connections:
        connection.close()
    _eventually(lambda: _figure(faulty, name) == before + 8)
    _eventually(lambda: _figure(faulty, 'bert_rt_queue_tokens{model="squad"}') == 0)
    _answered(faulty)


def test_an_engine_that_fails_once_fails_no_later_request(faulty: Served) -> None:
    status, body, _ = faulty.ask("/v1/answer", _asking(f"{FAILS} {MARKER}"))
    assert (status, body["code"]) == (500, "EngineInternalError")
    with ThreadPoolExecutor(20) as pool:
        good = list(pool.map(lambda _: faulty.ask("/v1/answer", BODY)[0], range(20)))
    assert good == [200] * 20
    assert faulty.state()[0] == 200


def test_a_request_that_fails_the_engine_fails_alone(faulty: Served) -> None:
    bodies = [BODY] * 10 + [_asking(FAILS)] + [BODY] * 10
    with ThreadPoolExecutor(22) as pool:
        # While it is computed the others come, and are computed together.
        slow = pool.submit(faulty.ask, "/v1/answer", _asking(IS_SLOW))
        _eventually(lambda: _figure(faulty, 'bert_rt_queue_depth{model="squad"}') > 0)
        codes = [reply[0] for reply in pool.map(lambda it: faulty.ask("/v1/answer", it), bodies)]
    assert codes == [200] * 10 + [500] + [200] * 10
    assert slow.result()[0] == 200


def test_idle_connections_hinder_nobody(artifact: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < _IDLE + 500:
        pytest.skip(f"ulimit -Hn is {hard}: too few for {_IDLE} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = json.dumps({"header_timeout_s": 60})
    with served(["tests.support.serving.server", str(artifact), options]) as server:
        before = server.peak_mib()
        idle = [server.connect() for _ in range(_IDLE)]
        try:
            began_s = time.monotonic()
            _answered(server)
            assert time.monotonic() - began_s < 5
            idle[0].setblocking(False)
            with pytest.raises(BlockingIOError):  # It is open still.
                idle[0].recv(1)
            assert server.peak_mib() - before < 200
        finally:
            for connection in idle:
                connection.close()
        _answered(server)


def test_deadlines(faulty: Served) -> None:
    began_s = time.monotonic()
    status, body, _ = faulty.ask("/v1/answer", _asking(IS_SLOW, timeout_ms=20))
    assert (status, body["code"]) == (504, "DeadlineExceededError")
    assert time.monotonic() - began_s < 5


def test_overload_is_refused_for_every_member(artifact: Path) -> None:
    options = json.dumps({"max_queue_tokens": 200})
    with served(["tests.support.serving.server", str(artifact), options]) as server:
        holder = threading.Thread(target=server.ask, args=("/v1/answer", _asking(IS_SLOW)))
        holder.start()
        _eventually(lambda: _figure(server, 'bert_rt_queue_depth{model="squad"}') > 0)
        long = {"question": QUESTION, "context": "the cat sat " * 400}
        many = {"question": [QUESTION] * 100, "context": CONTEXT}
        for body in (long, many):
            status, refusal, response = server.ask("/v1/answer", body)
            assert (status, refusal["code"]) == (429, "OverloadedError")
            assert 1 <= int(response.headers["Retry-After"]) <= 60
        holder.join()
        _eventually(lambda: _figure(server, 'bert_rt_queue_tokens{model="squad"}') == 0)
        _answered(server)


def test_sigterm_under_load_loses_nothing(artifact: Path) -> None:
    options = json.dumps({"shutdown_delay_s": 1.0, "shutdown_timeout_s": 10})
    with (
        served(["tests.support.serving.server", str(artifact), options]) as server,
        ThreadPoolExecutor(12) as pool,
    ):
        before = _figure(server, 'bert_rt_batch_tokens_count{model="squad"}')
        jobs = [pool.submit(server.ask, "/v1/answer", _asking(IS_SLOW)) for _ in range(12)]
        _eventually(lambda: _figure(server, 'bert_rt_queue_depth{model="squad"}') > 0)
        server.process.send_signal(signal.SIGTERM)
        _eventually(lambda: server.state()[0] == 503)
        assert server.state()[1]["status"] == "draining"
        late = server.ask("/v1/answer", BODY)  # It is still answered, and told to go elsewhere.
        assert late[0] == 200 and late[2].headers["Connection"] == "close"
        assert [job.result()[0] for job in jobs] == [200] * 12
        assert before == 0
        assert server.process.wait(15) == 0
        with pytest.raises(OSError):  # noqa: PT011
            socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_an_engine_that_hangs_is_not_ready_and_can_be_ended(artifact: Path) -> None:
    options = json.dumps({"hang_s": 0.5, "shutdown_timeout_s": 1})
    with served(["tests.support.serving.server", str(artifact), options]) as server:
        status, body, _ = server.ask("/v1/answer", _asking(HANGS, timeout_ms=300))
        assert (status, body["code"]) == (504, "DeadlineExceededError")
        _eventually(lambda: server.state()[0] == 503)
        assert server.state()[1]["models"] == {"squad": "hanging"}
        assert server.ask("/v2/health/ready")[0] == 503
        assert server.ask("/v2/health/live")[0] == 200
        status, body, response = server.ask("/v1/answer", BODY)
        assert (status, body["code"]) == (503, "ModelNotReadyError")
        assert response.headers["Retry-After"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 1


def test_no_log_holds_a_passage(faulty: Served) -> None:
    faulty.ask("/v1/answer", {"question": MARKER, "context": MARKER})
    faulty.ask(f"/{MARKER}?q={MARKER}")
    faulty.ask("/v1/answer", MARKER.encode())
    _eventually(lambda: any('"unmatched"' in line for line in faulty.logs))
    errors = [line for line in faulty.logs if '"level": "error"' in line]
    assert all("EngineInternalError" in line for line in errors), errors
    assert MARKER not in "".join(faulty.logs)
    assert MARKER not in faulty.ask("/metrics")[1].decode()
