"""The description of the API, made of the tasks' forms: what /openapi.json and /docs show."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import msgspec

import bert_rt
from bert_rt.serving.failures import ErrorBody
from bert_rt.tasks.forms.http import HttpForm
from bert_rt.tasks.registry import TASKS

__all__ = ["document", "forms"]

_REF = "#/components/schemas/{name}"
_FAILURES = {
    "400": "A field is missing, unknown or out of range",
    "401": "The bearer token is missing or wrong",
    "404": "There is no such model",
    "413": "The body, a text or the number of inputs is above its limit",
    "415": "The body is of another media type or packed in another way",
    "429": "Too much is waiting already; Retry-After says when to come again",
    "500": "The model failed",
    "503": "The model is loading or does not answer",
    "504": "The deadline has passed",
}


def forms() -> dict[str, HttpForm]:
    """Return the forms of all tasks by path; of several tasks with one path the first one's."""
    found: dict[str, HttpForm] = {}
    for task in TASKS.values():
        form = task.http()
        found.setdefault(form.path, form)
    return found


def document(
    asked: Mapping[str, HttpForm], *, has_token: bool, has_page: bool = True
) -> dict[str, Any]:
    """Describe the API as OpenAPI 3.1.

    Args:
        asked: The tasks' forms by path.
        has_token: Whether requests must bring a bearer token.
        has_page: Whether there is a page at "/".

    Returns:
        The document, of plain JSON values.
    """
    shapes: list[type[Any]] = [
        cls for form in asked.values() for cls in (form.request, form.response)
    ]
    _, schemas = msgspec.json.schema_components([*shapes, ErrorBody], ref_template=_REF)
    described_by: list[type[Any]] = [*_structs(shapes), ErrorBody]
    for cls in described_by:
        _describe_fields(schemas[cls.__name__], cls)
    paths: dict[str, Any] = {
        f"/v1/{form.path}": {"post": _task_operation(form)} for form in asked.values()
    }
    components: dict[str, Any] = {"schemas": schemas}
    paths |= _OTHER_PATHS
    if has_page:
        paths["/"] = paths["/"] | _PAGE
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "bert-rt",
            "version": bert_rt.__version__,
            "description": "Answers from texts. start and end count Unicode code points.",
        },
        "paths": paths,
        "components": components,
    }
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described


def _structs(roots: list[type[Any]]) -> list[type[Any]]:
    """Return all Structs that the roots hold."""
    found: dict[type[Any], None] = {}

    def visit(kind: Any) -> None:
        if isinstance(kind, msgspec.inspect.StructType):
            if kind.cls in found:
                return
            found[kind.cls] = None
            for field in kind.fields:
                visit(field.type)
        for name in ("item_type", "types"):
            inner = getattr(kind, name, ())
            for each in inner if isinstance(inner, tuple) else (inner,):
                visit(each)

    for root in roots:
        visit(msgspec.inspect.type_info(root))
    return list(found)


def _describe_fields(schema: dict[str, Any], cls: type[Any]) -> None:
    """Put the docstring's attributes where OpenAPI has them."""
    schema["description"] = (inspect.getdoc(cls) or "").partition("\n")[0]
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        attributes = (inspect.getdoc(base) or "").partition("Attributes:\n")[2]
        for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE):
            texts[name] = " ".join(text.split())
    for name, field in schema["properties"].items():
        if name in texts and "$ref" not in field:
            field["description"] = texts[name]


def _task_operation(form: HttpForm) -> dict[str, Any]:
    media = {"schema": _ref(form.request.__name__), "example": dict(form.example)}
    return {
        "summary": form.summary,
        "operationId": form.path,
        "requestBody": {"required": True, "content": {"application/json": media}},
        "responses": {
            "200": _json("Results in order", _ref(form.response.__name__)),
            **_failures(),
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": dict(schema)}}}


def _failures(*codes: str) -> dict[str, Any]:
    return {code: _json(_FAILURES[code], _ref("ErrorBody")) for code in codes or _FAILURES}


_OBJECT = {"type": "object"}
_NAME: dict[str, Any] = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "parameters": {"anyOf": [_OBJECT, {"type": "null"}]},
        "data": {"type": "array"},
    },
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"anyOf": [_OBJECT, {"type": "null"}]},
        "inputs": {"type": "array", "items": _TENSOR},
    },
}
_HUGGING_FACE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"description": "question and context, a text, or a list of such"},
        "parameters": {"anyOf": [_OBJECT, {"type": "null"}]},
    },
}


def _get(summary: str, response: Mapping[str, Any], *codes: str, named: bool = False) -> Any:
    operation = {
        "summary": summary,
        "responses": {"200": dict(response), **_failures("401", *codes)},
    }
    return {"get": operation} | ({"parameters": [_NAME]} if named else {})


def _post(summary: str, schema: Any, response: Any, *, named: bool = False) -> Any:
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    responses = {"200": _json("Results", response), **_failures()}
    operation = {"summary": summary, "requestBody": body, "responses": responses}
    return {"post": operation} | ({"parameters": [_NAME]} if named else {})


_ANY_OBJECT = _json("What there is", _OBJECT)
_HEALTH = {
    "200": _json("Ready", _OBJECT),
    "503": _json("Not ready", _OBJECT),
}
_METRICS = {"description": "Figures", "content": {"text/plain": {"schema": {"type": "string"}}}}
_HTML = {"description": "HTML", "content": {"text/html": {"schema": {"type": "string"}}}}
_PAGE = {"get": {"summary": "The page to try it", "responses": {"200": _HTML}}}
_OTHER_PATHS: dict[str, Any] = {
    "/v1/models": _get("List the models", _ANY_OBJECT),
    "/health": {"get": {"summary": "Tell whether all models answer", "responses": _HEALTH}},
    "/metrics": _get("Figures for Prometheus", _METRICS),
    "/": _post("Hugging Face's inference API", _HUGGING_FACE, {}),
    "/v2": _get("Open Inference Protocol: the server", _ANY_OBJECT),
    "/v2/health/live": {
        "get": {"summary": "Tell whether the server runs", "responses": {"200": _ANY_OBJECT}}
    },
    "/v2/health/ready": {
        "get": {"summary": "Tell whether all models answer", "responses": _HEALTH}
    },
    "/v2/models/{model}": _get("Describe a model", _ANY_OBJECT, "404", "503", named=True),
    "/v2/models/{model}/ready": _get(
        "Tell whether a model answers", _ANY_OBJECT, "404", "503", named=True
    ),
    "/v2/models/{model}/config": _get(
        "A model's configuration", _ANY_OBJECT, "404", "503", named=True
    ),
    "/v2/models/{model}/stats": _get("A model's statistics", _ANY_OBJECT, "404", "503", named=True),
    "/v2/models/{model}/infer": _post("Compute tensors", _INFER, _OBJECT, named=True),
}
