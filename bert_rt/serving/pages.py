"""What a browser gets: the page at "/", the description of the API, and no asset from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bert_rt.serving.failures import HttpFailure
from bert_rt.serving.openapi import document, forms
from bert_rt.serving.service import Service, json_response, route
from bert_rt.support.strict_json import readable_json
from bert_rt.tasks.registry import TASKS

__all__ = ["SECURITY_HEADERS", "routes"]

_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_FILES = ("page.css", "page.js", "result.js", "icon.svg")
_VIEWS = "tasks.json"

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes(service: Service) -> list[Route]:
    """Make the routes.

    Args:
        service: What all requests share.

    Returns:
        The page and its files, where there is one, and the description of the API.
    """
    described = document(
        forms(), has_token=bool(service.settings.token), has_page=service.settings.page
    )
    docs = _page(_docs(described), "html")

    async def openapi(request: Request) -> Response:
        del request
        return json_response(described)

    async def show_docs(request: Request) -> Response:
        del request
        return docs()

    async def show_page(request: Request) -> Response:
        del request
        return pages["index.html"]()

    async def show_file(request: Request) -> Response:
        name = request.path_params["file"]
        if name == "index.html" or name not in pages:
            raise HttpFailure(404, "NotFoundError", f"path: there is no file {name[:100]!r}")
        return pages[name]()

    texts = {name: _read(name) for name in ("index.html", *_FILES)}
    texts[_VIEWS] = _views()
    pages = {name: _page(text, name.rpartition(".")[2]) for name, text in texts.items()}
    found = [route("/openapi.json", openapi), route("/docs", show_docs)]
    found.append(route("/page/{file}", show_file))
    return [*found, route("/", show_page)] if service.settings.page else found


def _read(name: str) -> str:
    return resources.files("bert_rt.serving").joinpath("page", name).read_text("utf-8")


def _views() -> str:
    """Write what the page knows of every task, by the task's name."""
    views = {name: task.http().view for name, task in TASKS.items()}
    return msgspec.json.encode(views).decode()


def _page(text: str, kind: str) -> Callable[[], Response]:
    def make() -> Response:
        return Response(text, headers=dict(SECURITY_HEADERS), media_type=_TYPES[kind])

    return make


def _docs(described: Mapping[str, Any]) -> str:
    """Write the API as one page of HTML."""
    parts = []
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method in ("get", "post"):
                parts.append(_operation(path, method.upper(), operation, described))
    info = described["info"]
    return _DOCS.format(
        title=escape(f"{info['title']} {info['version']}"),
        description=escape(info["description"]),
        operations="\n".join(parts),
    )


def _operation(
    path: str, method: str, operation: Mapping[str, Any], described: Mapping[str, Any]
) -> str:
    lines = [
        f"<section><h2><code>{method} {escape(path)}</code></h2>",
        f"<p>{escape(operation['summary'])}</p>",
    ]
    media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schemas = described["components"]["schemas"]
    schema = _resolve(media.get("schema", {}), schemas)
    if schema.get("properties"):
        lines.append(_fields("Request", schema, schemas))
    if "example" in media:
        lines.append(f"<pre>{escape(readable_json(media['example'], indent=2))}</pre>")
    content = operation["responses"]["200"].get("content", {}).get("application/json", {})
    answer = _resolve(content.get("schema", {}), schemas)
    if answer.get("properties"):
        lines.append(_fields("Response", answer, schemas))
    codes = ", ".join(code for code in operation["responses"])
    return "\n".join([*lines, f"<p>Status: {escape(codes)}</p></section>"])


def _fields(title: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = []
    for name, field in schema["properties"].items():
        described = _resolve(field, schemas)
        mark = "required" if name in required else "optional"
        text = field.get("description", described.get("description", ""))
        rows.append(
            f"<tr><td><code>{escape(name)}</code></td><td>{mark}</td>"
            f"<td>{escape(_kind(field))}</td><td>{escape(text)}</td></tr>"
        )
    head = "<tr><th>Field</th><th></th><th>Type</th><th>Meaning</th></tr>"
    body = "\n".join(rows)
    return f"<h3>{title}</h3><div class='scroll'><table>{head}\n{body}</table></div>"


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _resolve(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found: Mapping[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="page/page.css">
<link rel="icon" href="page/icon.svg">
</head>
<body class="docs">
<main>
<h1>{title}</h1>
<p>{description} As JSON: <a href="openapi.json">openapi.json</a>.</p>
{operations}
</main>
</body>
</html>
"""
