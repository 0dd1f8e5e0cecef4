"""Tests of tasks that take a text: summaries and entities by every API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bert_rt.api import Runtime
from bert_rt.serving import Application, app
from tests.support import seq2seq_artifacts
from tests.support.artifacts import write_tiny_summarizer, write_tiny_tagger
from tests.support.serving.asgi import call

TEXT = "The cat sat on the mat in Paris. The mat sat. Who sat on the cat?"


@pytest.fixture(scope="module")
def tagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("tagging") / "a"
    write_tiny_tagger(path)
    with Runtime.load(path, engine="onnxruntime", num_threads=1) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def summarizing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("summarizing") / "a"
    write_tiny_summarizer(path)
    with Runtime.load(path, engine="onnxruntime", num_threads=1) as runtime:
        yield runtime


@pytest.fixture
def application(tagging: Runtime, summarizing: Runtime) -> Application:
    return app({"names": tagging, "sums": summarizing})


def test_summaries(application: Application, summarizing: Runtime) -> None:
    body = {"text": [TEXT, "The cat sat."], "max_sentences": 2}
    reply = call(application, "/v1/summarize", body)
    assert reply.status == 200, reply.json
    want = summarizing.summarize_batch(body["text"], max_sentences=2)
    for got, expected in zip(reply.json["summaries"], want, strict=True):
        assert got["text"] == expected.text
        assert [it["index"] for it in got["sentences"]] == [it.index for it in expected.sentences]
    first = reply.json["summaries"][0]["sentences"]
    assert len(first) == 2
    assert all(TEXT[it["start"] : it["end"]] == it["text"] for it in first)
    assert reply.json["model"] == "sums"
    refused = call(application, "/v1/summarize", {"text": TEXT, "max_sentences": 0})
    assert refused.status == 400 and "max_sentences" in refused.json["error"]


def test_entities(application: Application, tagging: Runtime) -> None:
    reply = call(application, "/v1/tag", {"text": [TEXT, "Paris"]})
    assert reply.status == 200, reply.json
    want = tagging.tag_batch([TEXT, "Paris"])
    assert any(it.entities for it in want)
    for got, expected in zip(reply.json["taggings"], want, strict=True):
        found = [(it["label"], it["start"], it["end"]) for it in got["entities"]]
        assert found == [(it.label, it.start, it.end) for it in expected.entities]


@pytest.fixture(scope="module")
def translating() -> Iterator[Runtime]:
    artifact = seq2seq_artifacts.make_artifact()
    with Runtime.open(artifact, engine="onnxruntime", num_threads=1) as runtime:
        yield runtime


@pytest.mark.timeout(600)
def test_translations(translating: Runtime) -> None:
    service = app({"en-de": translating})
    asked = {"num_beams": 3, "max_new_tokens": 9, "length_penalty": 0.5}
    reply = call(service, "/v1/translate", {"text": [TEXT, "The cat"], "top_k": 2, **asked})
    assert reply.status == 200, reply.json
    want = translating.translate_batch([TEXT, "The cat"], top_k=2, **asked)
    for got, expected in zip(reply.json["translations"], want, strict=True):
        assert got["text"] == expected.text
        for mine, sentence in zip(got["sentences"], expected.sentences, strict=True):
            assert (mine["start"], mine["end"]) == (sentence.start, sentence.end)
            others = [other.text for other in sentence.alternatives]
            assert [other["text"] for other in mine["alternatives"]] == others != []
    whole = call(service, "/v1/translate", {"text": TEXT, "split_sentences": False}).json
    assert len(whole["translations"][0]["sentences"]) == 1
    for name, value in (("num_beams", 0), ("max_new_tokens", 0), ("top_k", 9), ("sampling", True)):
        refused = call(service, "/v1/translate", {"text": TEXT, name: value})
        assert refused.status == 400 and name in refused.json["error"]
    assert call(service, "/v1/translate", {"text": " "}).status == 400
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    columns = call(service, "/v2/models/en-de/infer", {"inputs": [tensor]}).json["outputs"]
    assert columns[0]["data"] == [translating.translate(TEXT).text]
    face = call(service, "/", {"inputs": TEXT}).json
    assert face == [{"translation_text": translating.translate(TEXT).text}]


def test_tensors(application: Application, tagging: Runtime, summarizing: Runtime) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    sums = call(application, "/v2/models/sums/infer", {"inputs": [tensor]}).json
    columns = {it["name"]: it["data"] for it in sums["outputs"]}
    assert columns["summary"] == [summarizing.summarize(TEXT).text]
    assert len(json.loads(columns["sentences"][0])) == len(summarizing.summarize(TEXT).sentences)
    names = call(application, "/v2/models/names/infer", {"inputs": [tensor]}).json
    entities = json.loads(names["outputs"][0]["data"][0])
    assert [it["text"] for it in entities] == [it.text for it in tagging.tag(TEXT).entities]


def test_hugging_face(tagging: Runtime, summarizing: Runtime) -> None:
    reply = call(app({"sums": summarizing}), "/", {"inputs": TEXT})
    assert reply.json == [{"summary_text": summarizing.summarize(TEXT).text}]
    service = app({"names": tagging})
    want = tagging.tag(TEXT).entities
    one = call(service, "/", {"inputs": TEXT}).json
    assert [(it["word"], it["entity_group"]) for it in one] == [(it.text, it.label) for it in want]
    assert call(service, "/", {"inputs": [TEXT]}).json == [one]
    assert call(service, "/", {"inputs": [1]}).status == 404
