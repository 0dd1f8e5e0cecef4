"""Servers as processes, and an engine with faults that certain words bring out.

    python -m tests.support.serving.server DIRECTORY JSON

serves the artifact in DIRECTORY as "squad"; JSON holds fields of Settings and ServerOptions, and
"max_queue_tokens".
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime, open_session
from bert_rt.artifact.artifact import TOKENIZER_NAME, load_artifact
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.registry import open_engine
from bert_rt.serving import Settings, app
from bert_rt.tasks.registry import task_of_artifact
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Outputs, PackedBatch
from runtime.serve.logs import set_up_logs
from runtime.serve.server import ServerOptions, end_at_once, listen, serve
from tests.support.data.text import VOCAB

FAILS, HANGS, IS_SLOW = "7", "8", "9"
"""Words that make the engine fail, hang, or take SLOW_S."""

SLOW_S = 0.3
_ROOT = Path(__file__).resolve().parents[3]
_START_S = 60


@dataclass
class Served:
    """A server that runs."""

    process: subprocess.Popen[str]
    port: int = 0
    logs: list[str] = field(default_factory=list)

    def ask(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        """Send one request on a connection of its own; returns status, body and response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} if data is not None else {}
        method = "GET" if data is None else "POST"
        try:
            connection.request(method, path, data, {**fields, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text, response

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def state(self) -> tuple[int, Any]:
        """Return status and body of /health."""
        return self.ask("/health")[:2]

    def peak_mib(self) -> float:
        """Return the most memory that the process has held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


@contextmanager
def served(command: Sequence[str], **environ: str) -> Iterator[Served]:
    """Start `python -m COMMAND` on a free port and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=_ROOT,
        env={**os.environ, **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Served(process)
    reader = threading.Thread(target=_read, args=(server,))
    reader.start()
    try:
        deadline_s = time.monotonic() + _START_S
        while not server.port or server.state()[0] != 200:
            assert process.poll() is None and time.monotonic() < deadline_s, server.logs
            time.sleep(0.05)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            reader.join()


def _read(server: Served) -> None:
    assert server.process.stderr is not None
    with server.process.stderr as lines:
        for line in lines:
            server.logs.append(line)
            found = re.search(r"listening on http://[^ ]+:(\d+)", line)
            if found:
                server.port = int(found[1])


class _FaultyEngine:
    """An engine with faults."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.info = engine.info
        self.outputs = engine.outputs

    def run(self, batch: PackedBatch) -> Outputs:
        words = {VOCAB[index] for index in batch.input_ids.tolist()}
        if FAILS in words:
            raise RuntimeError("the engine failed on purpose")
        if HANGS in words:
            time.sleep(3600)
        if IS_SLOW in words:
            time.sleep(SLOW_S)
        outputs: Outputs = self._engine.run(batch)
        return outputs

    def close(self) -> None:
        self._engine.close()


def main() -> None:
    """Serve the artifact that the command line names."""
    directory, options = sys.argv[1], json.loads(sys.argv[2])
    set_up_logs("info", has_access_log=True)
    artifact = load_artifact(directory)
    manifest, task = artifact.manifest, task_of_artifact(artifact.manifest.task)
    engine = _FaultyEngine(open_engine("onnxruntime", artifact, EngineOptions("cpu", 1)))
    session = open_session(
        engine,
        Tokenizer.from_bytes(artifact.read(TOKENIZER_NAME)),
        manifest.architecture,
        max_queue_tokens=options.pop("max_queue_tokens", 2**20),
    )
    runtime = Runtime(session, engine.info, manifest, task, task.read_limits(manifest))
    names = {"header_timeout_s", "body_timeout_s", "shutdown_delay_s", "shutdown_timeout_s"}
    connection = {name: options.pop(name) for name in names & set(options)}
    application = app({"squad": runtime}, Settings(**options))
    code = serve(application, listen("127.0.0.1", 0), ServerOptions(**connection))
    if code:
        end_at_once(code)


if __name__ == "__main__":
    main()
