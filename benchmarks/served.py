"""The service as a process, and clients of it that cost little, for bench_serve.py."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Connections that the open loop may hold; more would wait in the client, which is an error.
_MOST_CONNECTIONS = 1000


class Server:
    """The service as a process."""

    def __init__(self, num_threads: int, flags: Sequence[str]) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "runtime.serve", "--port", "0", "--no_access_log"]
        command += ["--num_threads", str(num_threads), *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.port = 0
        for line in self.process.stderr:
            if found := re.search(r"listening on http://[^ ]+:(\d+)", line):
                self.port = int(found[1])
                break
        while self.get("/health")[0] != 200:
            time.sleep(0.1)

    def get(self, path: str) -> tuple[int, str]:
        """Ask for a path; returns status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def figures(self) -> dict[str, float]:
        """Read the figures of /metrics, by name; those of several labels are added up."""
        found: Counter[str] = Counter()
        for line in self.get("/metrics")[1].splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name.partition("{")[0]] += float(value)  # type: ignore[assignment]
        return dict(found)

    def cpu_s(self) -> float:
        """Return the CPU time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def python_s(self) -> float:
        """Return the CPU time of the threads that do not compute: those of the least nice value."""
        used_ns: Counter[int] = Counter()
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            nice = int((task / "stat").read_text().rpartition(")")[2].split()[16])
            used_ns[nice] += int((task / "schedstat").read_text().split()[0])
        assert len(used_ns) > 1, "want --engine_nice above 0"
        return used_ns[min(used_ns)] / 1e9

    def rss_mib(self) -> float:
        """Return the memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


@dataclass
class Reply:
    """What became of a request of the open loop; times in seconds."""

    status: int
    latency_s: float
    index: int
    body: bytes


class Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, with one request at a time."""

    def __init__(self) -> None:
        """Hold no request."""
        self._data = b""
        self._reply: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect a response."""
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head) if end else None
        if found and len(body) >= int(found[1]) and self._reply is not None:
            self._data = b""
            self._reply.set_result((int(head[9:12]), body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its response."""
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply


def request_bytes(value: Any) -> bytes:
    """Make a request for /v1/answer."""
    body = json.dumps(value).encode()
    head = "POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def open_loop(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int
) -> list[Reply]:
    """Send requests at the times of a Poisson process, whatever became of those before."""
    loop, random_ = asyncio.get_running_loop(), random.Random(seed)
    idle: list[Connection] = []
    replies: list[Reply] = []
    num_open = 0

    async def send(index: int, due_s: float) -> None:
        nonlocal num_open
        if idle:
            connection = idle.pop()
        else:
            num_open += 1
            assert num_open <= _MOST_CONNECTIONS, "the client holds too many connections"
            _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        status, body = await connection.ask(requests[index])
        replies.append(Reply(status, loop.time() - due_s, index, body))
        idle.append(connection)

    tasks, number, due_s = set(), 0, loop.time()
    end_s = due_s + seconds
    while due_s < end_s:
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        task = asyncio.create_task(send(number % len(requests), due_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
        due_s += random_.expovariate(rate)
    await asyncio.gather(*tasks)
    return replies
