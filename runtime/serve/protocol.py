"""HTTP connections with deadlines: uvicorn itself closes no request that is half sent.

The head of a request and its body have a deadline each, and the head a greatest length. What the
protocol refuses gets the same JSON as every other error.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from http import HTTPStatus
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["DeadlineProtocol", "protocol_class"]

# A request that was under way when the service began to end is still taken.
_LAST_REQUEST_S = 0.25
# What a refused client still sends is read for so long, and dropped.
_LINGER_S = 1.0


class _RefusedError(Exception):
    """Ends the parser where a head is too long."""


class DeadlineProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        header_timeout_s: Seconds from the connection, or a request's first byte, to its body.
        body_timeout_s: Seconds from there to the body's end.
        max_header_bytes: Longest path and headers together.
    """

    header_timeout_s: ClassVar[float] = 10.0
    body_timeout_s: ClassVar[float] = 30.0
    max_header_bytes: ClassVar[int] = 64 * 1024

    _timer: asyncio.TimerHandle | None = None
    _deadline_s: float | None = None  # of the event loop's clock
    _num_header_bytes = 0  # of complete headers
    _num_head_bytes = 0  # received since the last body
    _is_in_head = True
    _is_refused = False
    _is_receiving = False
    _refusal: tuple[int, str] = (400, "request: is not valid HTTP/1.1")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._set_deadline(self.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what the parser keeps until a header is complete."""
        if self._is_refused:
            return
        self._num_head_bytes = self._num_head_bytes + len(data) if self._is_in_head else 0
        super().data_received(data)
        too_long = self._is_in_head and self._num_head_bytes > 2 * self.max_header_bytes
        if too_long and not self._is_refused:
            self._refuse(*self._too_long())

    def on_message_begin(self) -> None:
        """Wait for the head."""
        super().on_message_begin()
        self._is_in_head = True
        self._num_header_bytes = 0
        self._is_receiving = True
        self._set_deadline(self.header_timeout_s)

    def on_url(self, url: bytes) -> None:
        """Count the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._is_in_head = False
        self._set_deadline(self.body_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing: the application answers."""
        self._is_receiving = False
        self._is_in_head, self._num_head_bytes = True, 0
        self._clear_deadline()
        super().on_message_complete()

    def shutdown(self) -> None:
        """Take a request that is on its way, then close."""
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(_LAST_REQUEST_S, self._close_if_idle)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or what has too long a head."""
        del msg
        self._refuse(*self._refusal)

    def _count(self, num_bytes: int) -> None:
        self._num_header_bytes += num_bytes
        if self._num_header_bytes > self.max_header_bytes:
            self._refusal = self._too_long()
            raise _RefusedError

    def _too_long(self) -> tuple[int, str]:
        limit = self.max_header_bytes
        return 431, f"headers: got more than {limit} bytes, want at most that"

    def _close_if_idle(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _set_deadline(self, seconds: float) -> None:
        self._deadline_s = self.loop.time() + seconds
        # A timer for each deadline would cost more than looking again when an old one is due.
        if self._timer is None or self._timer.when() > self._deadline_s:
            self._start_timer()

    def _clear_deadline(self) -> None:
        self._deadline_s = None

    def _start_timer(self) -> None:
        self._stop_timer()
        assert self._deadline_s is not None
        self._timer = self.loop.call_at(self._deadline_s, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._deadline_s is None:
            return
        if self._deadline_s > self.loop.time():
            self._start_timer()
        else:
            self._give_up()

    def _give_up(self) -> None:
        """The deadline has passed."""
        if self.transport.is_closing():
            return
        if self.pipeline:  # We ourselves do not read on before the request before is answered.
            self._set_deadline(self.body_timeout_s)
            return
        is_answered = self.cycle is not None and self.cycle.response_started
        is_pending = self.cycle is not None and not self.cycle.response_complete
        if self._is_receiving and not (is_answered and is_pending):
            self._refuse(408, "request: was not received within its deadline")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        request_id = uuid.uuid4().hex
        code = HTTPStatus(status).phrase.title().replace(" ", "") + "Error"
        body = json.dumps({"error": message, "code": code, "request_id": request_id}).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        # Closed at once, with bytes unread, the connection would be reset and the response lost.
        self._is_refused = True
        self.transport.write_eof()
        self._stop_timer()
        self._timer = self.loop.call_later(_LINGER_S, self.transport.close)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def protocol_class(*, header_timeout_s: float, body_timeout_s: float) -> type[DeadlineProtocol]:
    """Make the class of connections with other deadlines.

    Args:
        header_timeout_s: As in DeadlineProtocol.
        body_timeout_s: As in DeadlineProtocol.

    Returns:
        A class for uvicorn's `http`.
    """
    fields = {"header_timeout_s": header_timeout_s, "body_timeout_s": body_timeout_s}
    return type("ConfiguredProtocol", (DeadlineProtocol,), fields)
