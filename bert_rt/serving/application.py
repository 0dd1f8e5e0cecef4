"""The application: all routes behind one gate, as an ASGI application that others may mount."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from bert_rt.serving import hugging_face, inference_protocol, pages, tasks
from bert_rt.serving.middleware import Gate, path_within
from bert_rt.serving.models import Source
from bert_rt.serving.service import Service, by_method_and_path, join_methods
from bert_rt.serving.settings import Settings

__all__ = ["Application", "app"]


class Application:
    """An ASGI application that answers by HTTP.

    Attributes:
        service: Its models, limits and figures.
    """

    def __init__(self, service: Service) -> None:
        """Put the routes together.

        Args:
            service: What all requests share.
        """
        self.service = service
        routes = [
            *tasks.routes(service),
            *inference_protocol.routes(service),
            *hugging_face.routes(service),
            *pages.routes(service),
        ]
        self._router = Router(join_methods(routes), redirect_slashes=False)
        self._exact = by_method_and_path(routes)
        self._gate = Gate(self._route, service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start and end with the server.

        Args:
            scope: ASGI's.
            receive: ASGI's.
            send: ASGI's.
        """
        if scope["type"] == "http":
            self.service.start()  # Where it is mounted, nobody tells it that the server starts.
            await self._gate(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        # With it the router raises what it cannot answer, and the gate makes JSON of that.
        scope["app"] = self
        answer = self._exact.get((scope["method"], path_within(scope)), self._router)
        await answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.service.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                self.service.is_draining = True
                self.service.models.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def app(models: Mapping[str, Source], settings: Settings | None = None) -> Application:
    """Make an ASGI application that serves models.

    Args:
        models: By name; the first is the default one. A Runtime is used and stays the caller's to
            close; the path of an artifact is loaded at once; a function that returns a Runtime is
            called in a thread when the server starts, and the service is not ready before.
        settings: Limits, deadlines and who may ask; None for the defaults.

    Returns:
        The application, for uvicorn, gunicorn or `Mount` of another application.

    Raises:
        ConfigError: There is no model, or a name cannot be used.
        BertRtError: A path cannot be loaded.
    """
    return Application(Service(models, settings or Settings()))
