"""The server around the application: it listens, and it ends without losing a request."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from bert_rt.errors import ConfigError
from bert_rt.serving import Application
from runtime.serve.protocol import protocol_class

__all__ = ["ServerOptions", "end_at_once", "listen", "serve"]

_LOG = logging.getLogger(__name__)

_BACKLOG = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How connections are treated, and how the service ends; times in seconds.

    Attributes:
        header_timeout_s: Until a request's head has arrived.
        body_timeout_s: From there until its body has.
        keep_alive_s: How long a connection may be idle after a response.
        shutdown_delay_s: From SIGTERM, when the service stops being ready, until it refuses new
            connections: load balancers need some time to notice.
        shutdown_timeout_s: From there, at most, until it ends though requests are unanswered.
    """

    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    shutdown_delay_s: float = 0.0
    shutdown_timeout_s: float = 30.0


def listen(host: str, port: int) -> socket.socket:
    """Open the socket before anything slow happens.

    Args:
        host: An address or name.
        port: A port; 0 for any that is free.

    Returns:
        The socket.

    Raises:
        ConfigError: The address cannot be used.
    """
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = info[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"host, port: cannot listen on {host}:{port}: {error.strerror or error}"
        ) from None


def serve(
    application: Application,
    listener: socket.socket,
    options: ServerOptions,
    outermost: ASGIApp | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT.

    Args:
        application: The application.
        listener: What listen returned.
        options: Deadlines.
        outermost: The application with layers around it; None where it has none.

    Returns:
        The exit code: 0, or 1 where an engine hangs, so that the process must be ended at once.
    """
    _raise_file_limit()
    config = uvicorn.Config(
        outermost or application,
        http=protocol_class(
            header_timeout_s=options.header_timeout_s, body_timeout_s=options.body_timeout_s
        ),
        loop="auto",  # uvloop, which Windows does not have
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(options.keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(options.shutdown_timeout_s)),
    )
    server = _Server(config, application, options.shutdown_delay_s)
    server.run(sockets=[listener])
    return 1 if application.service.is_busy else 0


class _Server(uvicorn.Server):
    """Stops being ready at the first signal, and ends some time after it."""

    def __init__(
        self, config: uvicorn.Config, application: Application, shutdown_delay_s: float
    ) -> None:
        super().__init__(config)
        self._application = application
        self._delay_s = shutdown_delay_s
        self._ends_s: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, which would be no success.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        if self._ends_s is not None:  # Somebody is in a hurry.
            self.should_exit = self.force_exit = True
            return
        self._application.service.is_draining = True
        self._ends_s = time.monotonic() + (self._delay_s if sig == signal.SIGTERM else 0.0)

    async def on_tick(self, counter: int) -> bool:
        if self._ends_s is not None and time.monotonic() >= self._ends_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            where = f"[{host}]" if ":" in host else host
            _LOG.info("listening on http://%s:%d", where, port)


def _raise_file_limit() -> None:
    """Allow as many connections as the system allows this process."""
    try:
        import resource
    except ImportError:  # Windows has no such limit.
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_at_once(code: int) -> None:
    """End the process without waiting for a thread that hangs."""
    logging.shutdown()
    os._exit(code)
