"""The routes of the library's own API: one a task, and what there is to know about models."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bert_rt.serving.computing import Wanted
from bert_rt.serving.measures import CONTENT_TYPE
from bert_rt.serving.models import Model
from bert_rt.serving.openapi import forms
from bert_rt.serving.service import Service, decode_json, json_response, route
from bert_rt.tasks.forms.http import HttpForm, TaskRequest, Usage

__all__ = ["routes"]


class _Named(msgspec.Struct):
    """What is looked at before it is known which task's request it is."""

    model: Any = None


def routes(service: Service) -> list[Route]:
    """Make the routes.

    Args:
        service: What all requests share.

    Returns:
        One route a task, then those about the service.
    """

    def ask(form: HttpForm) -> Route:
        async def answer(request: Request) -> Response:
            return await _ask(service, form, request)

        return route(f"/v1/{form.path}", answer, "POST")

    async def models(request: Request) -> Response:
        del request
        return json_response({"models": [_describe(model) for model in service.models]})

    async def health(request: Request) -> Response:
        del request
        states = service.states
        status = "draining" if service.is_draining else "ready" if service.is_ready else "not ready"
        return json_response({"status": status, "models": states}, 200 if service.is_ready else 503)

    async def metrics(request: Request) -> Response:
        del request
        return Response(service.measures.render(), media_type=CONTENT_TYPE)

    return [
        *(ask(form) for form in forms().values()),
        route("/v1/models", models),
        route("/health", health),
        route("/metrics", metrics),
    ]


async def _ask(service: Service, form: HttpForm, request: Request) -> Response:
    with service.held() as held:
        body = await service.body(request, held)
        # The model decides of what task the request is; a wrong name is the clearest error.
        name = decode_json(body, _Named).model
        model = service.models.find(
            name if isinstance(name, str) else None,
            lambda other: other.path == form.path,
            f"/v1/{form.path}",
        )
        service.note(request, model)
        asked: TaskRequest = decode_json(body, model.form.request)
        wanted = Wanted(
            items=model.form.items(asked),
            top_k=asked.top_k,
            timeout_ms=asked.timeout_ms,
            priority=asked.priority,
            options=model.form.options(asked),
        )
        computed = await service.compute(request, model, wanted)
    usage = Usage(computed.num_tokens)
    return json_response(model.form.respond(computed.results, model.name, usage))


def _describe(model: Model) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": model.name, "state": model.state}
    if model.error:
        entry["error"] = model.error
    runtime = model.runtime
    if runtime is not None:
        entry |= {
            "task": runtime.task.name,
            "route": f"/v1/{model.form.path}",
            "engine": runtime.info.name,
            "precision": runtime.info.precision,
            "max_seq_length": runtime.limits.max_seq_length,
            "labels": list(runtime.manifest.labels),
        }
    return entry
