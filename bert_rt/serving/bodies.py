"""Bodies of requests: received and unpacked within limits."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Receive

from bert_rt.errors import OverloadedError
from bert_rt.serving.failures import HttpFailure
from bert_rt.serving.settings import Settings

__all__ = ["BodyBudget", "ClientGoneError", "check_media_type", "read_body"]

# Both forms of zlib's headers, recognized by zlib.
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class ClientGoneError(Exception):
    """The client closed the connection before its response."""


class BodyBudget:
    """Bounds the bytes of bodies that all requests hold together. For one event loop."""

    def __init__(self, max_bytes: int) -> None:
        """Start with nothing held.

        Args:
            max_bytes: Most bytes.
        """
        self._max_bytes = max_bytes
        self.num_bytes = 0

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Count a request's bytes for as long as the context lasts.

        Yields:
            What counts them.
        """
        held = Held(self)
        try:
            yield held
        finally:
            self.num_bytes -= held.num_bytes

    def add(self, num_bytes: int) -> None:
        """Count bytes; raises OverloadedError where they are too many."""
        if self.num_bytes and self.num_bytes + num_bytes > self._max_bytes:
            raise OverloadedError(
                f"body: got {num_bytes} bytes while {self.num_bytes} of other requests are held, "
                f"want at most max_pending_bytes = {self._max_bytes} together; try again later"
            )
        self.num_bytes += num_bytes


class Held:
    """The bytes that one request holds."""

    def __init__(self, budget: BodyBudget) -> None:
        """Hold nothing yet.

        Args:
            budget: Of all requests.
        """
        self._budget = budget
        self.num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Hold more bytes; raises OverloadedError where all requests hold too many."""
        self._budget.add(num_bytes)
        self.num_bytes += num_bytes


def check_media_type(request: Request, *allowed: str) -> None:
    """Refuse a body of another media type; none at all is taken for the first one allowed.

    A form or plain text is refused because any web page may send these without being asked.

    Args:
        request: The request.
        *allowed: Media types, in small letters.

    Raises:
        HttpFailure: Status 415.
    """
    given = request.headers.get("content-type")
    if given is None:
        return
    media_type = given.partition(";")[0].strip().lower()
    if media_type not in allowed:
        raise HttpFailure(
            415,
            "UnsupportedMediaTypeError",
            f"Content-Type: got {media_type[:100]!r}, want {' or '.join(allowed)}",
        )


async def read_body(request: Request, receive: Receive, settings: Settings, held: Held) -> bytes:
    """Receive a body and unpack it.

    Args:
        request: The request.
        receive: ASGI's.
        settings: The limits.
        held: Counts the bytes.

    Returns:
        The body.

    Raises:
        HttpFailure: It is too long (413), packed in an unknown way (415) or not as it says (400).
        OverloadedError: All requests hold too many bytes.
        ClientGoneError: The client closed the connection.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise HttpFailure(
            415,
            "UnsupportedMediaTypeError",
            f"Content-Encoding: got {encoding[:100]!r}, want gzip, deflate or identity",
        )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > settings.max_body_bytes:
        raise _too_long("body", declared[:20], "max_body_bytes", settings.max_body_bytes)
    chunks: list[bytes] = []
    total = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        chunk = message.get("body", b"")
        total += len(chunk)
        if total > settings.max_body_bytes:
            limit = settings.max_body_bytes
            raise _too_long("body", f"more than {limit}", "max_body_bytes", limit)
        if chunk:
            held.add(len(chunk))
            chunks.append(chunk)
        if not message.get("more_body", False):
            break
    body = b"".join(chunks)
    return body if encoding == "identity" else _unpack(body, settings, held)


def _unpack(body: bytes, settings: Settings, held: Held) -> bytes:
    limit = settings.max_unpacked_bytes
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise _damaged() from None
    if len(unpacked) > limit:
        raise _too_long("unpacked body", f"more than {limit}", "max_unpacked_bytes", limit)
    if not unpacker.eof or unpacker.unused_data:
        raise _damaged()
    held.add(len(unpacked))
    return unpacked


def _damaged() -> HttpFailure:
    return HttpFailure(
        400, "InputError", "body: is damaged or cut off, want what Content-Encoding says"
    )


def _too_long(what: str, got: str, name: str, limit: int) -> HttpFailure:
    message = f"{what}: got {got} bytes, want at most {name} = {limit}"
    return HttpFailure(413, "PayloadTooLargeError", message)
