"""`--traces`: what a collector of OpenTelemetry receives."""

from __future__ import annotations

import gzip
import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.artifacts import PAIRS, write_tiny_artifact
from tests.support.serving.server import served

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

_MARKER = "zebramarker"
_TRACE, _PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """Takes spans on a free port."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Receiver)

    @property
    def services(self) -> set[str]:
        return {
            each.value.string_value
            for body in self.bodies
            for group in _parse(body).resource_spans
            for each in group.resource.attributes
            if each.key == "service.name"
        }

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for body in self.bodies
            for group in _parse(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, Collector)
        self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def _parse(body: bytes) -> Any:
    request = trace_service.ExportTraceServiceRequest()
    request.ParseFromString(body)
    return request


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("traces") / "squad"
    write_tiny_artifact(path)
    flags = ["--engine", "onnxruntime", "--num_threads", "1", "--port", "0", "--traces"]
    return ["runtime.serve", "--artifact", str(path), *flags]


def _ask(server: Any, **headers: str) -> int:
    question, context = PAIRS[0]
    body = {"question": question, "context": f"{context} {_MARKER}"}
    status: int = server.ask("/v1/answer", body, headers)[0]
    return status


def test_a_request_is_a_span_of_its_callers_trace(command: list[str], collector: Collector) -> None:
    where = f"http://127.0.0.1:{collector.server_port}"
    with served(command, OTEL_EXPORTER_OTLP_ENDPOINT=where) as server:
        assert _ask(server, traceparent=f"00-{_TRACE}-{_PARENT}-01") == 200
        assert server.ask("/v1/answer", b"{")[0] == 400
        assert server.ask("/health")[0] == 200
    assert collector.services == {"bert-rt"}
    by_trace = [span for span in collector.spans if span.trace_id.hex() == _TRACE]
    root = next(span for span in by_trace if span.parent_span_id.hex() == _PARENT)
    assert root.name == "POST /v1/answer"
    attributes = {each.key: each.value for each in root.attributes}
    assert attributes["bert_rt.model"].string_value == "squad"
    assert attributes["bert_rt.inputs"].int_value == 1
    children = [span for span in by_trace if span.parent_span_id == root.span_id]
    assert [span.name for span in children] == ["prepare", "queue", "inference"]
    times = [root.start_time_unix_nano]
    for span in children:
        times += [span.start_time_unix_nano, span.end_time_unix_nano]
    times.append(root.end_time_unix_nano)
    slack_ns = 2_000_000  # two clocks
    assert all(after > before - slack_ns for before, after in itertools.pairwise(times))
    others = [span.name for span in collector.spans if span.trace_id.hex() != _TRACE]
    assert others == ["POST /v1/answer"]  # the bad one; nothing of /health
    assert not any(_MARKER.encode() in body for body in collector.bodies)


def test_without_a_collector_the_service_answers_and_ends(command: list[str]) -> None:
    nowhere = "http://127.0.0.1:9"
    with served(command, OTEL_EXPORTER_OTLP_ENDPOINT=nowhere, OTEL_SERVICE_NAME="mine") as server:
        assert [_ask(server) for _ in range(3)] == [200] * 3
    assert server.process.returncode == 0
