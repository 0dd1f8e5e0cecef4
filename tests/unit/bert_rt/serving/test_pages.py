"""Tests of the page and the API's description: whole, from here only, and true."""

from __future__ import annotations

import dataclasses
import re

import msgspec

from bert_rt.api import Runtime
from bert_rt.serving import Application, Settings, app
from bert_rt.serving.openapi import forms
from bert_rt.tasks.forms.page import PageView
from bert_rt.tasks.registry import TASKS
from tests.support.serving.asgi import call

_SCRIPTS = ("page.js", "result.js")
_FILES = (*_SCRIPTS, "page.css", "tasks.json")


def test_the_page_needs_nothing_from_elsewhere(application: Application) -> None:
    for path in ("/", "/docs", *(f"/page/{name}" for name in _FILES)):
        reply = call(application, path)
        text = reply.body.decode()
        assert reply.status == 200
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"(?:src|href|url|import)\s*[=(]\s*[\"']?(?:https?:)?//", text)
        assert "innerHTML" not in text
        if path in ("/", "/docs"):  # The policy would refuse both.
            assert not re.search(r"<script(?! src)|<style|\bstyle=|\bon\w+=", text)
    assert 'rel="stylesheet" href="page/page.css"' in call(application, "/").body.decode()


def test_the_page_can_be_left_out(answering: Runtime) -> None:
    closed = app({"squad": answering}, Settings(page=False))
    assert call(closed, "/").status == 405
    assert call(closed, "/docs").status == 200


def test_every_element_that_the_script_asks_for_is_there(application: Application) -> None:
    script = "".join(call(application, f"/page/{name}").body.decode() for name in _SCRIPTS)
    html = call(application, "/").body.decode()
    asked = set(re.findall(r"\$\(\"([\w-]+)\"\)", script))
    assert len(asked) > 20
    assert {name for name in asked if f'id="{name}"' not in html} == set()


def test_the_page_gets_every_task_from_the_registry(application: Application) -> None:
    views = call(application, "/page/tasks.json").json
    want = {name: task.http().view for name, task in TASKS.items()}
    assert views == msgspec.json.decode(msgspec.json.encode(want))
    # What the script reads of a view is there.
    script = "".join(call(application, f"/page/{name}").body.decode() for name in _SCRIPTS)
    read = set(re.findall(r"\bview\.(\w+)", script))
    assert read == {field.name for field in dataclasses.fields(PageView)}


def test_the_page_knows_no_task(application: Application) -> None:
    for name in ("index.html", *_SCRIPTS):
        path = "/" if name == "index.html" else f"/page/{name}"
        text = call(application, path).body.decode()
        assert len(text.splitlines()) < 400
        for task in TASKS.values():
            form = task.http()
            names = (task.name, task.name.replace("-", " "), f"v1/{form.path}", form.view.title)
            assert [it for it in names if it in text] == [], name


def test_only_known_files_are_served(application: Application) -> None:
    for name in ("index.html", "..", "page.py", "%2e%2e"):
        assert call(application, f"/page/{name}").status == 404


def test_the_description_has_every_route_and_field(application: Application) -> None:
    described = call(application, "/openapi.json").json
    routes = {route.path for route in application._router.routes}
    unversioned = {re.sub(r"/versions/\{version\}", "", path) for path in routes}
    hidden = {"/docs", "/openapi.json", "/page/{file}", "/v2/models/stats", "/v2/repository/index"}
    assert set(described["paths"]) == unversioned - hidden
    schemas = described["components"]["schemas"]
    for form in forms().values():
        for cls in (form.request, form.response):
            for field in cls.__struct_fields__:
                entry = schemas[cls.__name__]["properties"][field]
                assert "description" in entry or "$ref" in entry, (cls, field)
        assert msgspec.convert(form.example, form.request)


def test_the_token_is_in_the_description(answering: Runtime) -> None:
    closed = app({"squad": answering}, Settings(token="t"))
    reply = call(closed, "/openapi.json", headers={"authorization": "Bearer t"})
    assert reply.json["security"] == [{"token": []}]


def test_the_examples_answer(application: Application) -> None:
    described = call(application, "/openapi.json").json
    for path in ("/v1/answer", "/v1/classify"):
        media = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert call(application, path, media["example"]).status == 200
