"""What all requests of an application share, and the path from a body to a response."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bert_rt.errors import InputError
from bert_rt.serving.bodies import BodyBudget, check_media_type, read_body
from bert_rt.serving.computing import Computed, Wanted, compute
from bert_rt.serving.measures import Measures
from bert_rt.serving.middleware import Exchange
from bert_rt.serving.models import Model, Models, Source
from bert_rt.serving.settings import Settings

__all__ = ["Service", "decode_json", "join_methods", "json_response", "route"]

_JSON = "application/json"
_MAX_CLIENT_CHARS = 200

T = TypeVar("T")
_Answer = Callable[[Request], Awaitable[Response]]


class Service:
    """Models, limits and figures of one application.

    Attributes:
        settings: The limits.
        measures: The figures.
        models: The models.
        is_draining: Whether the service is about to end: it answers, but is not ready any more.
    """

    def __init__(self, sources: Mapping[str, Source], settings: Settings) -> None:
        """Take the models; those to be loaded by a function wait for start.

        Args:
            sources: What the models are, by name.
            settings: The limits.

        Raises:
            BertRtError: There is no model, or one cannot be loaded.
        """
        self.settings = settings
        self.measures = Measures()
        self.models = Models(sources, self.measures, settings.hang_s)
        self.is_draining = False
        self._budget = BodyBudget(settings.max_pending_bytes)
        self._is_started = False

    def start(self) -> None:
        """Load in a thread what is not loaded yet. Calling it twice is harmless."""
        if not self._is_started:
            self._is_started = True
            threading.Thread(target=self.models.load, name="bert-rt-loader", daemon=True).start()

    @property
    def states(self) -> dict[str, str]:
        """The state of every model by its name."""
        return {model.name: model.state for model in self.models}

    @property
    def is_ready(self) -> bool:
        """Whether every model answers and the service is not about to end."""
        return not self.is_draining and set(self.states.values()) == {"ready"}

    @property
    def is_busy(self) -> bool:
        """Whether an engine is running a batch."""
        return any(model.running_s > 0 for model in self.models)

    def note(self, request: Request, model: Model) -> None:
        """Remember for figures and logs which model a request asks."""
        exchange: Exchange = request.scope["bert_rt.exchange"]
        assert model.task is not None
        exchange.model, exchange.task = model.name, model.task.name

    @contextmanager
    def held(self) -> Any:
        """Count a request's bytes for as long as the context lasts."""
        with self._budget.held() as held:
            yield held

    async def body(self, request: Request, held: Any, *media_types: str) -> bytes:
        """Receive a request's body.

        Args:
            request: The request.
            held: What held gave.
            *media_types: Those allowed; none for JSON.

        Returns:
            The body, unpacked.

        Raises:
            HttpFailure: The body or its type is refused.
            OverloadedError: All requests hold too many bytes.
            ClientGoneError: The client closed the connection.
        """
        check_media_type(request, *(media_types or (_JSON,)))
        return await read_body(request, request.receive, self.settings, held)

    async def compute(self, request: Request, model: Model, wanted: Wanted) -> Computed:
        """Compute what a request wants, as computing.compute does."""
        exchange: Exchange = request.scope["bert_rt.exchange"]
        exchange.num_inputs = len(wanted.items)
        header = self.settings.client_header
        if header:
            client = request.headers.get(header, "")[:_MAX_CLIENT_CHARS]
            wanted = dataclasses.replace(wanted, client=client)
        computed = await compute(model, wanted, request.receive, self.settings)
        exchange.stages = computed.stages
        return computed


class _Endpoint:
    """Tells a route's template to figures and logs, and answers.

    An ASGI application: of a function Starlette would make one with layers that look for handlers
    of exceptions, for every request and message, where the gate handles all of them.
    """

    def __init__(self, path: str, answer: _Answer) -> None:
        self._path = path
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["bert_rt.exchange"].route = self._path
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)


def route(path: str, endpoint: _Answer, *methods: str) -> Route:
    """Make a route that tells its template to figures and logs.

    Args:
        path: The template.
        endpoint: Answers a request.
        *methods: HTTP methods; none for GET.

    Returns:
        The route.
    """
    return Route(path, _Endpoint(path, endpoint), methods=list(methods or ("GET",)))


def join_methods(routes: Sequence[Route]) -> list[Route]:
    """Make one route of those of one path, so that a wrong method learns of all that there are.

    Args:
        routes: Possibly several of one path, each for methods of its own.

    Returns:
        The routes, in their order, each path once.
    """
    by_path: dict[str, list[Route]] = {}
    for each in routes:
        by_path.setdefault(each.path, []).append(each)
    return [_joined(alike) if len(alike) > 1 else alike[0] for alike in by_path.values()]


def by_method_and_path(routes: Sequence[Route]) -> dict[tuple[str, str], ASGIApp]:
    """Index the routes without parameters, which need not be searched for then.

    Args:
        routes: Those with parameters are left out.

    Returns:
        Applications by method and path.
    """
    return {
        (method, each.path): each.app
        for each in routes
        for method in each.methods or ()
        if "{" not in each.path
    }


class _ByMethod:
    """The endpoints of one path."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.apps = {method: each.app for each in routes for method in each.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.apps[scope["method"]](scope, receive, send)


def _joined(routes: Sequence[Route]) -> Route:
    by_method = _ByMethod(routes)
    return Route(routes[0].path, by_method, methods=list(by_method.apps))


def decode_json(body: bytes, shape: type[T]) -> T:
    """Parse a body strictly.

    Args:
        body: UTF-8 JSON.
        shape: What it must be.

    Returns:
        The value.

    Raises:
        InputError: It is no JSON, or not of the shape; the message says where.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except RecursionError:
        raise InputError("body: got nesting that is too deep, want flat JSON") from None
    except UnicodeDecodeError as error:
        raise InputError(f"body: is not UTF-8 at byte {error.start} of a text") from None
    except msgspec.ValidationError as error:
        raise InputError(f"body: {error}") from None
    except msgspec.DecodeError as error:
        raise InputError(f"body: is not valid JSON: {error}") from None


def json_response(value: Any, status: int = 200, headers: Any = None) -> Response:
    """Make a response of a value that msgspec can encode."""
    return Response(msgspec.json.encode(value), status, headers, _JSON)
