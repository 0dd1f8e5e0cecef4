"""Tests of the library's own API: answers equal those of the Runtime, mistakes are named."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest

from bert_rt.api import Runtime
from bert_rt.serving import Application, Settings, app
from bert_rt.tasks import registry
from bert_rt.tasks.base import Task
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from tests.support.artifacts import LABELS, PAIRS
from tests.support.serving.asgi import call

QUESTION, CONTEXT = PAIRS[0]


def test_one_question(application: Application, answering: Runtime) -> None:
    reply = call(application, "/v1/answer", {"question": QUESTION, "context": CONTEXT})
    want = answering.answer(QUESTION, CONTEXT)
    assert reply.status == 200
    (answer,) = reply.json["answers"]
    assert answer == {
        "text": want.text,
        "start": want.start,
        "end": want.end,
        "score": pytest.approx(want.score, rel=1e-5),
    }
    assert reply.json["model"] == "squad"
    assert reply.json["usage"]["tokens"] > 8


def test_many_questions_contexts_and_alternatives(
    application: Application, answering: Runtime
) -> None:
    questions = [question for question, _ in PAIRS[:3]]
    contexts = [context for _, context in PAIRS[:3]]
    for given, pairs in (
        ({"question": questions, "context": CONTEXT}, [(q, CONTEXT) for q in questions]),
        ({"question": QUESTION, "context": contexts}, [(QUESTION, c) for c in contexts]),
        ({"question": questions, "context": contexts}, PAIRS[:3]),
    ):
        body = {**given, "top_k": 2, "max_overlap": 0.0, "timeout_ms": 20_000, "priority": 1}
        reply = call(application, "/v1/answer", body)
        want = answering.answer_batch(pairs, top_k=2, max_overlap=0.0)
        got = reply.json["answers"]
        assert [answer["text"] for answer in got] == [answer.text for answer in want]
        for answer, expected in zip(got, want, strict=True):
            others = [other["text"] for other in answer["alternatives"]]
            assert others == [other.text for other in expected.alternatives]


def test_start_and_end_count_code_points(application: Application) -> None:
    context = "\U0001f600\U0001f600 " + CONTEXT
    reply = call(application, "/v1/answer", {"question": QUESTION, "context": context})
    (answer,) = reply.json["answers"]
    assert context[answer["start"] : answer["end"]] == answer["text"]


def test_classes(application: Application, classifying: Runtime) -> None:
    reply = call(application, "/v1/classify", {"text": ["the cat", "paris"], "top_k": 3})
    want = classifying.classify_batch(["the cat", "paris"], top_k=3)
    assert [entry["label"] for entry in reply.json["classes"]] == [it.label for it in want]
    assert {it["label"] for it in reply.json["classes"][0]["alternatives"]} < set(LABELS)
    pair = call(application, "/v1/classify", {"text": "the cat", "text_pair": "paris"})
    assert pair.json["classes"][0]["label"] == classifying.classify("the cat", "paris").label


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "body: is not valid JSON"),
        (b"[]", 400, "body: Expected `object`, got `array`"),
        (b"{" * 100_000, 400, "body: is not valid JSON"),
        (b'{"question": ' + b"[" * 100_000, 400, "body: "),
        (b'{"question": "\xff", "context": "x"}', 400, "body: is not UTF-8 at byte 0"),
        (b'{"question": "\\ud800", "context": "x"}', 400, "body: is not valid JSON"),
        ({"question": "who"}, 400, "body: Object missing required field `context`"),
        ({"question": 7, "context": "x"}, 400, "at `$.question`"),
        ({"question": [], "context": "x"}, 400, "length >= 1 - at `$.question`"),
        ({"question": "who", "context": "x", "topk": 2}, 400, "unknown field `topk`"),
        ({"question": "who", "context": "x", "top_k": 0}, 400, "at `$.top_k`"),
        ({"question": "who", "context": "x", "max_overlap": 2}, 400, "at `$.max_overlap`"),
        ({"question": "who", "context": "x", "timeout_ms": 0}, 400, "at `$.timeout_ms`"),
        (
            {"question": ["a", "b"], "context": ["x", "y", "z"]},
            400,
            "context: got 3 texts beside 2",
        ),
        ({"question": " ", "context": "x"}, 400, "question: got ' '"),
        ({"question": "a", "context": ["x", "y\0"]}, 400, "pairs[1].context: got a NUL"),
        ({"question": ["a"] * 9, "context": "x"}, 413, "inputs: got 9, want at most max_items = 8"),
        (
            {"question": "a", "context": "x", "model": "no"},
            404,
            "got 'no', want one of squad, mood",
        ),
        ({"question": "a", "context": "x", "model": "mood"}, 400, "which is for text-class"),
    ],
)
def test_mistakes_are_named(application: Application, body: Any, status: int, message: str) -> None:
    reply = call(application, "/v1/answer", body)
    assert reply.status == status, reply.body
    assert message in reply.json["error"]
    assert reply.json["code"].endswith("Error")
    assert reply.json["request_id"] == reply.headers["x-request-id"]


def test_packed_bodies(application: Application) -> None:
    body = json.dumps({"question": QUESTION, "context": CONTEXT}).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        reply = call(application, "/v1/answer", packed, headers={"content-encoding": encoding})
        assert reply.status == 200
    for encoding, data, status in (
        ("br", body, 415),
        ("gzip", body, 400),
        ("gzip", gzip.compress(body)[:-4], 400),
        ("gzip", gzip.compress(bytes(40 * 2**20)), 413),
    ):
        reply = call(application, "/v1/answer", data, headers={"content-encoding": encoding})
        assert (encoding, reply.status) == (encoding, status)


def test_content_types(application: Application) -> None:
    body = json.dumps({"question": QUESTION, "context": CONTEXT}).encode()
    for given, status in (
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ):
        reply = call(application, "/v1/answer", body, headers={"content-type": given})
        assert (given, reply.status) == (given, status)


def test_long_texts_and_bodies(answering: Runtime) -> None:
    settings = Settings(max_text_chars=100, max_body_bytes=1000)
    small = app({"squad": answering}, settings)
    reply = call(small, "/v1/answer", {"question": QUESTION, "context": "x " * 60})
    assert (reply.status, reply.json["code"]) == (413, "InputTooLongError")
    assert "want at most max_text_chars = 100" in reply.json["error"]
    reply = call(small, "/v1/answer", {"question": QUESTION, "context": "x" * 2000})
    assert reply.status == 413 and "max_body_bytes = 1000" in reply.json["error"]
    reply = call(small, "/v1/answer", b"", headers={"content-length": "9" * 30})
    assert reply.status == 413


def test_what_is_known_of_models(application: Application) -> None:
    squad, mood = call(application, "/v1/models").json["models"]
    assert squad["name"] == "squad" and squad["route"] == "/v1/answer"
    assert mood["task"] == "text-classification" and mood["labels"] == list(LABELS)
    health = call(application, "/health")
    assert health.status == 200
    assert health.json == {"status": "ready", "models": {"squad": "ready", "mood": "ready"}}


def test_a_task_without_a_form_has_a_route(
    answering: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(QuestionAnswering):
        name = "plain"
        method = "plain_answer"
        http = Task.http  # type: ignore[assignment]

    for name, task in registry._TASKS.items():
        monkeypatch.setitem(registry._TASKS, name, task)
    plain = Plain()
    monkeypatch.setitem(registry._TASKS, "plain", plain)
    runtime = Runtime(
        answering.session, answering.info, answering.manifest, plain, answering.limits
    )
    reply = call(app({"p": runtime}), "/v1/plain_answer", {"inputs": [[QUESTION, CONTEXT]]})
    assert reply.status == 200, reply.body
    want = answering.answer(QUESTION, CONTEXT)
    (result,) = reply.json["results"]
    assert (result["text"], result["start"]) == (want.text, want.start)
