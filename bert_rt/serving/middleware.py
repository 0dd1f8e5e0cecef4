"""What every request passes: its id, the token, CORS, errors as JSON, figures and one log line.

Pure ASGI: a middleware that runs the application in a task of its own would hide disconnects.
"""

from __future__ import annotations

import hmac
import json
import logging
import math
import os
import random
import re
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bert_rt.errors import OverloadedError
from bert_rt.serving.bodies import ClientGoneError
from bert_rt.serving.failures import ErrorBody, HttpFailure, failure_of
from bert_rt.serving.measures import Stage

if TYPE_CHECKING:
    from bert_rt.serving.service import Service

__all__ = ["ACCESS_LOG", "Exchange", "Gate"]

ACCESS_LOG = "bert_rt.serving.access"
_ACCESS = logging.getLogger(ACCESS_LOG)
_LOG = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# What answers without the token: nobody learns more of it than whether the service is well.
_OPEN_PATHS = ("/health", "/v2/health/live", "/v2/health/ready")
_GONE_STATUS = 499


@dataclass(slots=True)
class Exchange:
    """One request and its response, for figures and logs; no text of a caller is in it.

    Attributes:
        request_id: The caller's X-Request-ID, or a new one.
        method: The HTTP method, or "other".
        route: The route's template; "unmatched" before one is found.
        model: Name of the model that is asked, or "".
        task: Its task's name, or "".
        num_inputs: Inputs that were computed.
        status: Of the response; 0 before it begins.
        stages: Of an answer: when it was tokenized, waited and was computed.
    """

    request_id: str
    method: str
    route: str = "unmatched"
    model: str = ""
    task: str = ""
    num_inputs: int = 0
    status: int = 0
    stages: tuple[Stage, ...] = ()


def path_within(scope: Scope) -> str:
    """Return the path that is asked for, without that where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Gate:
    """The application's outermost layer."""

    def __init__(self, inner: ASGIApp, service: Service) -> None:
        """Stand before an application.

        Args:
            inner: Answers requests or raises.
            service: What all requests share.
        """
        self._inner = inner
        self._service = service
        self._settings = service.settings
        self._token = f"Bearer {service.settings.token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            send: ASGI's.
        """
        began_s = time.monotonic()
        headers = Headers(scope=scope)
        given_id = headers.get("x-request-id", "")
        request_id = given_id if _REQUEST_ID.fullmatch(given_id) else _new_id()
        exchange = Exchange(request_id, _METHODS.get(scope["method"], "other"))
        scope["bert_rt.exchange"] = exchange
        is_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                exchange.status = message["status"]
                self._add_headers(message, headers, exchange)
            await send(message)

        try:
            if not self._is_preflight(scope, headers):
                self._check_token(scope, headers)
                await self._inner(scope, receive, send_with_headers)
            else:
                await _send(send_with_headers, 204, {}, b"")
        except ClientGoneError:
            exchange.status = _GONE_STATUS
        except Exception as error:
            if is_begun:  # Too late to say so; the connection must end.
                exchange.status = 500
                raise
            await self._send_failure(error, exchange, send_with_headers)
        finally:
            self._record(exchange, time.monotonic() - began_s)

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        if not self._settings.token or path_within(scope) in _OPEN_PATHS:
            return
        given = headers.get("authorization", "").encode("utf-8")
        scheme, _, token = given.partition(b" ")
        if not hmac.compare_digest(b"Bearer " + token.strip(), self._token) or (
            scheme.lower() != b"bearer"
        ):
            raise HttpFailure(
                401,
                "UnauthorizedError",
                "Authorization: got none or a wrong one, want 'Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        asked = headers.get("access-control-request-method")
        return scope["method"] == "OPTIONS" and asked is not None and self._allows(headers)

    def _allows(self, headers: Headers) -> bool:
        origins = self._settings.cors_origins
        return "*" in origins or headers.get("origin", "") in origins

    def _add_headers(self, message: Message, given: Headers, exchange: Exchange) -> None:
        # A new list, since a response may be sent again.
        message["headers"] = [
            *message["headers"],
            (b"x-request-id", exchange.request_id.encode("latin-1")),
            (b"x-content-type-options", b"nosniff"),
        ]
        if not (self._service.is_draining or self._settings.cors_origins):
            return
        target = MutableHeaders(scope=message)
        if self._service.is_draining:
            target["Connection"] = "close"
        if not self._settings.cors_origins:
            return
        target.add_vary_header("Origin")
        if "origin" in given and self._allows(given):
            target["Access-Control-Allow-Origin"] = given["origin"]
            target["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
            if "access-control-request-method" in given:
                target["Access-Control-Allow-Methods"] = "GET, POST"
                target["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Request-ID"
                target["Access-Control-Max-Age"] = "600"

    async def _send_failure(self, error: Exception, exchange: Exchange, send: Send) -> None:
        failure = failure_of(error)
        if failure.status == 500 and not isinstance(error, HttpFailure):
            # Where it happened, but not its message: that may hold a caller's text.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("request %s: %s\n%s", exchange.request_id, type(error).__name__, frames)
        headers = dict(failure.headers)
        if isinstance(error, OverloadedError):
            # Whole seconds, as the header wants them; without a prediction the shortest wait.
            headers["Retry-After"] = str(max(1, min(60, math.ceil(error.retry_after_s or 1))))
        body = ErrorBody(failure.message, failure.code, exchange.request_id)
        headers["Content-Type"] = "application/json"
        await _send(send, failure.status, headers, msgspec.json.encode(body))

    def _record(self, exchange: Exchange, duration_s: float) -> None:
        self._service.measures.count_request(
            exchange.model, exchange.task, exchange.status or 500, duration_s
        )
        if _ACCESS.isEnabledFor(logging.INFO):
            entry = {
                "request_id": exchange.request_id,
                "method": exchange.method,
                "route": exchange.route,
                "status": exchange.status,
                "duration_ms": round(duration_s * 1000, 3),
                "model": exchange.model,
                "inputs": exchange.num_inputs,
            }
            _ACCESS.info("%s", json.dumps(entry), extra={"bert_rt": entry})


# Ids need not be secret. Asking the system for random bytes gives up the interpreter's lock, which
# the event loop then has to wait for while the engine's thread is in Python.
_IDS = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDS.seed)  # else forked workers would give the same ones


def _new_id() -> str:
    return f"{_IDS.getrandbits(128):032x}"


_METHODS = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


async def _send(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    fields = {"Content-Length": str(len(body)), **headers}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
