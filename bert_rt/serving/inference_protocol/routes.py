"""The routes under /v2."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bert_rt.errors import InputError
from bert_rt.serving.computing import Wanted
from bert_rt.serving.failures import HttpFailure
from bert_rt.serving.inference_protocol import describe
from bert_rt.serving.inference_protocol.tensors import (
    InferRequest,
    output_tensors,
    read_texts,
    split_body,
)
from bert_rt.serving.models import Model
from bert_rt.serving.service import Service, decode_json, json_response, route

__all__ = ["routes"]

_HEADER = "Inference-Header-Content-Length"
_JSON = "application/json"
_BINARY = "application/octet-stream"
# Parameters of a request that the protocol or its clients define, beside the task's own.
_TAKEN = ("timeout", "priority", "top_k", "binary_data_output")
# Triton's clients send these for models with state, which none here has.
_IGNORED = ("sequence_id", "sequence_start", "sequence_end", "headers")


def routes(service: Service) -> list[Route]:
    """Make the routes.

    Args:
        service: What all requests share.

    Returns:
        The routes, for any version of a model and for none.
    """

    async def server(request: Request) -> Response:
        del request
        return json_response(describe.server())

    async def live(request: Request) -> Response:
        del request
        return json_response({"live": True})

    async def ready(request: Request) -> Response:
        del request
        if not service.is_ready:
            raise HttpFailure(503, "ModelNotReadyError", "server: is not ready")
        return json_response({"ready": True})

    async def index(request: Request) -> Response:
        del request
        return json_response(describe.index(service.models))

    async def all_statistics(request: Request) -> Response:
        del request
        stats = [describe.statistics(model) for model in service.models if model.runtime]
        return json_response({"model_stats": stats})

    async def infer(request: Request) -> Response:
        return await _infer(service, request)

    found = [
        route("/v2", server),
        route("/v2/health/live", live),
        route("/v2/health/ready", ready),
        route("/v2/repository/index", index, "POST", "GET"),
        route("/v2/models/stats", all_statistics),
    ]
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            _about(service, prefix, describe.metadata),
            _about(service, f"{prefix}/config", describe.config),
            _about(service, f"{prefix}/stats", _one_statistics),
            _about(service, f"{prefix}/ready", lambda model: {"name": model.name, "ready": True}),
            route(f"{prefix}/infer", infer, "POST"),
        ]
    return found


def _one_statistics(model: Model) -> dict[str, Any]:
    return {"model_stats": [describe.statistics(model)]}


def _about(service: Service, path: str, tell: Any) -> Route:
    async def answer(request: Request) -> Response:
        model = _model(service, request)
        service.note(request, model)
        return json_response(tell(model))

    return route(path, answer)


def _model(service: Service, request: Request) -> Model:
    model = service.models.ready(request.path_params["model"])
    version = request.path_params.get("version", describe.VERSION)
    if version != describe.VERSION:
        raise HttpFailure(
            404,
            "UnknownModelError",
            f"version: got {version[:100]!r} of {model.name}, want {describe.VERSION}",
        )
    return model


async def _infer(service: Service, request: Request) -> Response:
    model = _model(service, request)
    service.note(request, model)
    form = model.form
    with service.held() as held:
        body = await service.body(request, held, _JSON, _BINARY)
        head, rest = split_body(body, request.headers.get(_HEADER))
        asked = decode_json(head, InferRequest)
        items = form.items_of_tensors(read_texts(asked, rest, form))
        unknown = {output.name for output in asked.outputs or ()} - set(form.outputs)
        if unknown:
            raise InputError(
                f"outputs: got {min(unknown)[:100]!r}, want one of {', '.join(form.outputs)}"
            )
        computed = await service.compute(request, model, _wanted(items, asked, form.parameters))
    entries, binary = output_tensors(asked, form.tensors(computed.results), form)
    response = {"model_name": model.name, "model_version": describe.VERSION, "outputs": entries}
    if asked.id is not msgspec.UNSET:
        response["id"] = asked.id
    if not binary:
        return json_response(response)
    text = msgspec.json.encode(response)
    return Response(text + binary, headers={_HEADER: str(len(text))}, media_type=_BINARY)


def _wanted(items: list[Any], asked: InferRequest, own: tuple[str, ...]) -> Wanted:
    parameters = dict(asked.parameters or {})
    for name in _IGNORED:
        parameters.pop(name, None)
    unknown = sorted(set(parameters) - {*_TAKEN, *own})
    if unknown:
        raise InputError(
            f"parameters: got {unknown[0][:100]!r}, want one of {', '.join((*_TAKEN, *own))}"
        )
    timeout_us, priority = parameters.get("timeout"), parameters.get("priority", 0)
    for name, value, low in (("timeout", timeout_us, 1), ("priority", priority, 0)):
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and (not is_integer or value < low):
            raise InputError(f"parameters.{name}: got {value!r:.100}, want an integer from {low}")
    return Wanted(
        items=items,
        top_k=parameters.get("top_k"),
        timeout_ms=None if timeout_us is None else timeout_us / 1000,
        priority=priority,
        options={name: parameters[name] for name in own if name in parameters},
    )
