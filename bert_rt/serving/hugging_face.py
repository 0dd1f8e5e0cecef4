"""POST / in the shape of Hugging Face's inference API: {"inputs", "parameters"?} -> results."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bert_rt.errors import InputError
from bert_rt.serving.computing import Wanted
from bert_rt.serving.service import Service, decode_json, json_response, route
from bert_rt.tasks.forms.http import InferenceForm

__all__ = ["InferenceRequest", "routes"]


class InferenceRequest(msgspec.Struct):
    """What huggingface_hub.InferenceClient sends; other fields are ignored, as there.

    Attributes:
        inputs: {"question", "context"}, a text, or a list of such.
        parameters: top_k, and the task's own.
    """

    inputs: Any
    parameters: dict[str, Any] | None = None


def routes(service: Service) -> list[Route]:
    """Make the route.

    Args:
        service: What all requests share.

    Returns:
        The only route.
    """

    async def ask(request: Request) -> Response:
        return await _ask(service, request)

    return [route("/", ask, "POST")]


async def _ask(service: Service, request: Request) -> Response:
    with service.held() as held:
        asked = decode_json(await service.body(request, held), InferenceRequest)
        model = service.models.find(
            None,
            lambda form: (
                isinstance(form, InferenceForm) and form.items_of_inputs(asked.inputs) is not None
            ),
            "such inputs (want {'question', 'context'}, a text, or a list of such)",
        )
        service.note(request, model)
        form = model.form
        assert isinstance(form, InferenceForm), "else it would not have been found"
        items = form.items_of_inputs(asked.inputs)
        assert items is not None
        options = {
            name: value for name, value in (asked.parameters or {}).items() if value is not None
        }
        known = ("top_k", *form.parameters)
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise InputError(
                f"parameters: got {unknown[0][:100]!r}, want one of {', '.join(known)}"
            )
        top_k = options.pop("top_k", None)
        computed = await service.compute(
            request, model, Wanted(items=items, top_k=top_k, options=options)
        )
    is_many = isinstance(asked.inputs, list)
    shaped = form.hugging_face(computed.results, is_many=is_many, top_k=top_k)
    return json_response(shaped)
