"""Calls an ASGI application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Reply:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(
    application: Any,
    path: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    root_path: str = "",
) -> Reply:
    """Send one request: a body that is no bytes as JSON, with POST where there is one."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = dict(headers or {})
    if body is not None:
        given.setdefault("content-type", "application/json")
    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": root_path + path,
        "root_path": root_path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
    }
    return asyncio.run(_call(application, scope, data))


async def _call(application: Any, scope: dict[str, Any], data: bytes) -> Reply:
    sent: list[dict[str, Any]] = []
    requests = [{"type": "http.request", "body": data}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    start, *parts = sent
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], fields, b"".join(part.get("body", b"") for part in parts))
