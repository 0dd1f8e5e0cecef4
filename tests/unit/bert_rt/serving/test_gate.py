"""Tests of what every request passes: token, CORS, ids, errors, logs, figures."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Match, Mount, Route

from bert_rt import errors
from bert_rt.api import Runtime
from bert_rt.errors import ConfigError, OverloadedError
from bert_rt.serving import Application, Settings, app
from bert_rt.serving.bodies import BodyBudget
from bert_rt.serving.failures import STATUSES, failure_of
from bert_rt.serving.measures import CODES, Measures
from bert_rt.serving.middleware import ACCESS_LOG
from tests.support.artifacts import PAIRS
from tests.support.serving.asgi import call

QUESTION, CONTEXT = PAIRS[0]
BODY = {"question": QUESTION, "context": CONTEXT}
_ROOT = Path(__file__).parents[4]

PATHS = (
    "/",
    "/docs",
    "/metrics",
    "/openapi.json",
    "/page/page.js",
    "/v1/models",
    "/v2",
    "/v2/models/squad",
    "/v2/models/squad/ready",
    "/nothing",
)


def test_every_error_has_a_status() -> None:
    assert {cls.__name__ for cls in STATUSES} == set(errors.__all__)
    for cls, status in STATUSES.items():
        failure = failure_of(cls("what was got"))
        assert (failure.status, failure.code, failure.message) == (
            status,
            cls.__name__,
            "what was got",
        )
        assert status in CODES


def test_our_own_mistakes_are_not_shown() -> None:
    failure = failure_of(KeyError("a passage"))
    assert failure.status == 500 and "passage" not in failure.message


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_there_is_nothing(answering: Runtime, path: str) -> None:
    closed = app({"squad": answering}, Settings(token="s3cret"))
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
        for root in ("", "/below"):
            reply = call(closed, path, headers=headers, root_path=root)
            assert (reply.status, reply.json["code"]) == (401, "UnauthorizedError")
            assert reply.headers["www-authenticate"] == "Bearer"
    reply = call(closed, path, headers={"authorization": "Bearer s3cret"})
    assert reply.status == (404 if path == "/nothing" else 200)


def test_health_needs_no_token_and_tells_nothing_else(answering: Runtime) -> None:
    closed = app({"squad": answering}, Settings(token="s3cret"))
    for path in ("/health", "/v2/health/live", "/v2/health/ready"):
        assert call(closed, path).status == 200
    for body in (BODY, b"x"):
        assert call(closed, "/v1/answer", body).status == 401
        assert call(closed, "/", body).status == 401
        assert call(closed, "/v2/models/squad/infer", body).status == 401


def test_errors_are_json_on_every_path(application: Application) -> None:
    for path, method, status in (
        ("/nothing", "GET", 404),
        ("/v2/nothing", "GET", 404),
        ("/page/../../settings.py", "GET", 404),
        ("/v1/answer", "GET", 405),
        ("/health", "POST", 405),
        ("/v2/models/no", "GET", 404),
        ("/v2/models/squad/versions/2", "GET", 404),
        ("/v1/answer", "BREW", 405),
    ):
        reply = call(application, path, method=method)
        assert (path, reply.status) == (path, status)
        assert sorted(reply.json) == ["code", "error", "request_id"]
        assert reply.headers["content-type"] == "application/json"


def test_request_ids(application: Application) -> None:
    assert (
        call(application, "/health", headers={"x-request-id": "a-1"}).headers["x-request-id"]
        == "a-1"
    )
    for bad in ("", "a b", "x" * 65, 'a"b'):
        given = call(application, "/health", headers={"x-request-id": bad}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", given)


def test_cors_is_off_unless_an_origin_is_named(answering: Runtime) -> None:
    ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
    closed = app({"squad": answering})
    reply = call(closed, "/v1/answer", method="OPTIONS", headers=ask)
    assert reply.status == 405
    assert not any(name.startswith("access-control") for name in reply.headers)
    opened = app({"squad": answering}, Settings(cors_origins=("https://a.example",), token="t"))
    reply = call(opened, "/v1/answer", method="OPTIONS", headers=ask)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "https://a.example"
    other = call(
        opened, "/v1/answer", method="OPTIONS", headers={**ask, "origin": "https://b.example"}
    )
    assert other.status == 401 and "access-control-allow-origin" not in other.headers


def test_it_mounts_into_other_applications(answering: Runtime) -> None:
    outer = Starlette(routes=[Mount("/bert", app({"squad": answering}))])
    assert call(outer, "/bert/health").status == 200
    assert call(outer, "/bert/v1/answer", BODY).json["model"] == "squad"
    reply = call(outer, "/bert/nothing")
    assert (reply.status, reply.json["code"]) == (404, "NotFoundError")


def test_what_goes_round_the_router_is_what_it_would_take(application: Application) -> None:
    assert ("POST", "/v1/answer") in application._exact
    for (method, path), answer in application._exact.items():
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        routes = application._router.routes
        found = next(route for route in routes if route.matches(scope)[0] is Match.FULL)
        assert isinstance(found, Route) and found.path == path
        assert getattr(found.app, "apps", {method: found.app})[method] is answer


def test_a_response_that_is_sent_again_has_each_header_once(answering: Runtime) -> None:
    application = app({"squad": answering})
    for path in ("/health", "/page/page.js", "/page/page.js"):
        headers: list[list[tuple[bytes, bytes]]] = []

        async def keep(message: Any, headers: Any = headers) -> None:
            headers.append(message.get("headers", []))

        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        asyncio.run(application(scope, _receive, keep))
        names = [name for name, _ in headers[0]]
        assert len(names) == len(set(names)) and b"x-request-id" in names


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def test_no_passage_in_logs_and_figures(
    application: Application, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = "zebra-marker"
    caplog.set_level(logging.DEBUG)
    bodies: list[Any] = [
        {"question": marker, "context": marker},
        {"question": marker, "context": f"\0{marker}"},
        {"question": marker, marker: 1},
        marker.encode(),
    ]
    for body in bodies:
        call(application, "/v1/answer", body)
    call(application, f"/{marker}", headers={"x-request-id": "q"})

    def fail(*_: Any) -> None:
        raise RuntimeError(marker)

    monkeypatch.setattr(application.service, "compute", fail)
    reply = call(application, "/v1/answer", bodies[0])
    assert reply.status == 500 and marker not in reply.json["error"]
    entries = [json.loads(it.getMessage()) for it in caplog.records if it.name == ACCESS_LOG]
    assert [entry["status"] for entry in entries] == [200, 400, 400, 400, 404, 500]
    assert entries[0]["route"] == "/v1/answer" and entries[0]["inputs"] == 1
    assert "RuntimeError" in caplog.text
    assert marker not in caplog.text
    assert marker not in call(application, "/metrics").body.decode()


NAMES = (
    "bert_rt_requests_total",
    "bert_rt_answers_total",
    "bert_rt_queue_depth",
    "bert_rt_queue_tokens",
    "bert_rt_batch_tokens_count",
    *(f"bert_rt_{it}_duration_seconds_count" for it in ("request", "tokenize", "queue")),
    "bert_rt_inference_duration_seconds_count",
)


def _series(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_all_series_are_there_from_the_start(application: Application) -> None:
    first = _series(call(application, "/metrics").body.decode())
    for name in NAMES:
        for model in ("squad", "mood"):
            assert any(key.startswith(name + "{") and f'model="{model}"' in key for key in first), (
                name
            )
    for body in (BODY, b"x", {**BODY, "model": "nothing"}, {**BODY, "model": "mood"}):
        call(application, "/v1/answer", body)
    call(application, "/v1/classify", {"text": "the cat"})
    second = _series(call(application, "/metrics").body.decode())
    assert set(second) == set(first)
    task = 'task="question-answering"'
    assert second[f'bert_rt_requests_total{{code="200",model="squad",{task}}}'] == 1
    assert second['bert_rt_answers_total{kind="class",model="mood"}'] == 1
    assert second['bert_rt_batch_tokens_count{model="squad"}'] == 1
    buckets = re.findall(r'bert_rt_(\w+)_bucket\{le="[^"]+",model="squad"\}', "\n".join(second))
    assert buckets and max(buckets.count(name) for name in set(buckets)) <= 15


def test_an_unforeseen_status_makes_no_series() -> None:
    measures = Measures()
    before = len(_series(measures.render().decode()))
    measures.count_request("", "", 418, 0.1)
    assert len(_series(measures.render().decode())) == before


def test_the_dashboard_asks_for_what_there_is(application: Application) -> None:
    dashboard = json.loads((_ROOT / "docs" / "serving" / "grafana.json").read_text())
    text = call(application, "/metrics").body.decode()
    known = {key.partition("{")[0] for key in _series(text)}
    asked: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            names = set(re.findall(r"bert_rt_\w+", target["expr"]))
            assert names, target
            asked |= names
    assert asked <= known, asked - known
    covered = {name.removesuffix("_count") for name in NAMES}
    assert {name for name in covered if not any(it.startswith(name) for it in asked)} == set()


def test_bodies_of_all_requests_are_bounded() -> None:
    budget = BodyBudget(100)
    with budget.held() as first, budget.held() as second:
        first.add(500)  # a single one may be as long as its own limit says
        with pytest.raises(OverloadedError, match="max_pending_bytes = 100"):
            second.add(1)
    assert budget.num_bytes == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_items": 0}, "max_items: got 0"),
        ({"hang_s": float("nan")}, "hang_s: got nan"),
        ({"token": "a b"}, "token: got white space"),
        ({"cors_origins": ("example.org",)}, "cors_origins: got 'example.org'"),
        ({"timeout_ms": 500_000}, "want at most max_timeout_ms"),
    ],
)
def test_settings_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**fields)


def test_models_are_checked(answering: Runtime) -> None:
    with pytest.raises(ConfigError, match="models: got none"):
        app({})
    with pytest.raises(ConfigError, match="models: got the name 'a/b'"):
        app({"a/b": answering})


def test_loading_and_failing_models(answering: Runtime) -> None:
    def fail() -> Runtime:
        raise ConfigError("no such engine")

    loading = app({"good": lambda: answering, "bad": fail})
    assert loading.service.is_ready is False
    assert loading.service.states == {"good": "loading", "bad": "loading"}
    loading.service.models.load()
    assert loading.service.states == {"good": "ready", "bad": "failed"}
    assert call(loading, "/health").status == 503
    assert call(loading, "/v2/health/ready").status == 503
    assert call(loading, "/v2/health/live").status == 200
    assert call(loading, "/v1/answer", BODY).status == 200
    reply = call(loading, "/v1/answer", {**BODY, "model": "bad"})
    assert (reply.status, reply.json["code"]) == (503, "ModelNotReadyError")
    assert "retry-after" in reply.headers


def test_the_server_tells_when_it_starts_and_ends(answering: Runtime) -> None:
    served = app({"squad": answering})
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    sent: list[str] = []

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(served({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert call(served, "/health").json["status"] == "draining"
    reply = call(served, "/v1/answer", BODY)  # What is still on its way is answered.
    assert reply.status == 200 and reply.headers["connection"] == "close"
