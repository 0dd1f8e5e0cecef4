"""Tests of the Open Inference Protocol and of Hugging Face's API, in the bytes of their clients."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.serving import Application
from tests.support.artifacts import PAIRS
from tests.support.serving.asgi import Reply, call

QUESTION, CONTEXT = PAIRS[0]
HEADER = "inference-header-content-length"


def _elements(*texts: str) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _texts(data: bytes) -> list[str]:
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return found


def _json_input(name: str, *texts: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts), **fields}


def _infer(application: Application, body: Any, **parameters: Any) -> Reply:
    if parameters:
        body = {**body, "parameters": parameters}
    return call(application, "/v2/models/squad/infer", body)


def _binary(application: Application, head: dict[str, Any], *tensors: bytes) -> Reply:
    """Send what tritonclient sends: no Content-Type, the tensors behind the JSON."""
    text = json.dumps(head).encode()
    data = text + b"".join(tensors)
    headers = {HEADER: str(len(text)), "content-type": "application/octet-stream"}
    return call(application, "/v2/models/squad/versions/1/infer", data, headers=headers)


def test_json_tensors(application: Application, answering: Runtime) -> None:
    questions = [question for question, _ in PAIRS[:2]]
    body = {
        "id": "7",
        "inputs": [_json_input("question", *questions), _json_input("context", CONTEXT)],
    }
    reply = _infer(application, body, timeout=20_000_000, priority=1, max_overlap=0.5, top_k=2)
    assert reply.status == 200, reply.body
    assert {key: reply.json[key] for key in ("id", "model_name", "model_version")} == {
        "id": "7",
        "model_name": "squad",
        "model_version": "1",
    }
    want = answering.answer_batch([(question, CONTEXT) for question in questions])
    outputs = {output["name"]: output for output in reply.json["outputs"]}
    assert outputs["answer"]["data"] == [answer.text for answer in want]
    assert outputs["start"]["data"] == [answer.start for answer in want]
    assert outputs["end"]["datatype"] == "INT64" and outputs["end"]["shape"] == [2]
    assert outputs["score"]["data"] == pytest.approx([answer.score for answer in want], rel=1e-5)


def test_binary_tensors_there_and_back(application: Application, answering: Runtime) -> None:
    questions, context = _elements(PAIRS[0][0], PAIRS[1][0]), _elements("caf\u00e9 " + CONTEXT)
    head = {
        "inputs": [
            {
                "name": name,
                "shape": [count, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(data)},
            }
            for name, count, data in (("context", 1, context), ("question", 2, questions))
        ],
        "parameters": {"binary_data_output": True},
    }
    reply = _binary(application, head, context, questions)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers[HEADER])
    outputs, rest = json.loads(reply.body[:length])["outputs"], reply.body[length:]
    values: dict[str, Any] = {}
    for output in outputs:
        size = output["parameters"]["binary_data_size"]
        values[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    want = answering.answer_batch([(PAIRS[i][0], "caf\u00e9 " + CONTEXT) for i in (0, 1)])
    assert _texts(values["answer"]) == [answer.text for answer in want]
    assert np.frombuffer(values["start"], "<i8").tolist() == [answer.start for answer in want]
    assert np.frombuffer(values["score"], "<f4").tolist() == pytest.approx(
        [answer.score for answer in want], rel=1e-5
    )


def test_named_outputs_choose_their_form(application: Application) -> None:
    body = {
        "inputs": [_json_input("question", QUESTION), _json_input("context", CONTEXT)],
        "outputs": [{"name": "end"}, {"name": "answer", "parameters": {"binary_data": True}}],
    }
    reply = _infer(application, body)
    length = int(reply.headers[HEADER])
    end, answer = json.loads(reply.body[:length])["outputs"]
    assert end["name"] == "end" and len(end["data"]) == 1
    assert answer["parameters"]["binary_data_size"] == len(reply.body) - length


GOOD = [_json_input("question", QUESTION), _json_input("context", CONTEXT)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": GOOD[:1]}, "inputs: got none of the name 'context'"),
        ({"inputs": [*GOOD, GOOD[0]]}, "inputs['question']: got twice"),
        ({"inputs": [*GOOD, _json_input("text", "a")]}, "inputs['text']: got an unknown input"),
        ({"inputs": [GOOD[0], _json_input("context", "a", datatype="FP32")]}, "got 'FP32', want"),
        ({"inputs": [GOOD[0], _json_input("context", "a", shape=[2])]}, "got 1 elements, want as"),
        ({"inputs": [GOOD[0], _json_input("context", "a", shape=[-1])]}, "at `$.inputs[1].shape"),
        ({"inputs": [GOOD[0], _json_input("context", "a", data=[1])]}, "want a list of strings"),
        ({"inputs": [GOOD[0], _json_input("context", "a", data=None)]}, "got neither data nor"),
        ({"inputs": GOOD, "outputs": [{"name": "logits"}]}, "outputs: got 'logits'"),
        ({"inputs": GOOD, "parameters": {"beam": 1}}, "parameters: got 'beam'"),
        ({"inputs": GOOD, "parameters": {"timeout": "1"}}, "parameters.timeout: got '1'"),
        ({"inputs": GOOD, "parameters": {"priority": -1}}, "parameters.priority: got -1"),
        ({"inputs": GOOD, "parameters": {"top_k": "x"}}, "top_k: got 'x'"),
        ({"inputs": [GOOD[0], _json_input("context", " ")]}, "context: got ' '"),
    ],
)
def test_mistakes_in_json(application: Application, body: Any, message: str) -> None:
    reply = _infer(application, body)
    assert reply.status == 400
    assert message in reply.json["error"]


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (b"\x05\0\0\0hell", 8, "an element of 5 bytes where 4 are left"),
        (b"\xff\xff\xff\xffhello", 9, "an element of 4294967295 bytes"),
        (b"\x01\0", 2, "got 2 bytes at the end, want a length"),
        (b"\x01\0\0\0\xff", 5, "element 0 is not UTF-8 at byte 0"),
        (b"\x01\0\0\0a", 6, "binary_data_size: got 6"),
        (b"\x01\0\0\0a", True, "binary_data_size: got True"),
        (b"\x01\0\0\0a\x01\0\0\0b", 10, "got 2 elements, want as many as the shape [1]"),
        (b"\x01\0\0\0aaa", 5, "got 2 bytes behind the last input"),
    ],
)
def test_mistakes_in_bytes(application: Application, data: bytes, size: Any, message: str) -> None:
    parameters = {"binary_data_size": size}
    tensor = {"name": "context", "shape": [1], "datatype": "BYTES", "parameters": parameters}
    reply = _binary(application, {"inputs": [GOOD[0], tensor]}, data)
    assert reply.status == 400
    assert message in reply.json["error"]


@pytest.mark.parametrize("header", ["-1", "x", "99999999999999999999999", "\u0661"])
def test_a_wrong_length_of_the_json(application: Application, header: str) -> None:
    path = "/v2/models/squad/infer"
    reply = call(application, path, {"inputs": GOOD}, headers={HEADER: header})
    assert reply.status == 400 and "Inference-Header-Content-Length: got" in reply.json["error"]


def test_what_is_told_of_models(application: Application) -> None:
    assert "binary_tensor_data" in call(application, "/v2").json["extensions"]
    for prefix in ("/v2/models/mood", "/v2/models/mood/versions/1"):
        about = call(application, prefix).json
        assert [tensor["name"] for tensor in about["inputs"]] == ["text", "text_pair"]
        assert about["versions"] == ["1"]
        assert call(application, f"{prefix}/ready").status == 200
        config = call(application, f"{prefix}/config").json
        assert config["input"][1] == {
            "name": "text_pair",
            "data_type": "TYPE_STRING",
            "dims": [-1],
            "optional": True,
        }
    states = call(application, "/v2/repository/index", b"{}").json
    assert [(it["name"], it["state"]) for it in states] == [("squad", "READY"), ("mood", "READY")]


def test_statistics_count(application: Application) -> None:
    assert _infer(application, {"inputs": GOOD}).status == 200
    (stats,) = call(application, "/v2/models/squad/stats").json["model_stats"]
    assert (stats["inference_count"], stats["execution_count"]) == (1, 1)
    assert stats["inference_stats"]["success"]["count"] == 1
    assert stats["inference_stats"]["compute_infer"]["ns"] > 0
    assert len(call(application, "/v2/models/stats").json["model_stats"]) == 2


def test_a_classifier_by_tensors(application: Application, classifying: Runtime) -> None:
    body = {"inputs": [_json_input("text", "the cat", "paris")]}
    reply = call(application, "/v2/models/mood/infer", body)
    labels = [output for output in reply.json["outputs"] if output["name"] == "label"]
    want = classifying.classify_batch(["the cat", "paris"])
    assert labels[0]["data"] == [result.label for result in want]


def test_hugging_face_answers(application: Application, answering: Runtime) -> None:
    want = answering.answer(QUESTION, CONTEXT, top_k=2)
    inputs = {"question": QUESTION, "context": CONTEXT}
    one = call(application, "/", {"inputs": inputs, "parameters": {"top_k": None}})
    assert sorted(one.json) == ["answer", "end", "score", "start"]
    assert (one.json["answer"], one.json["start"]) == (want.text, want.start)
    two = call(application, "/", {"inputs": inputs, "parameters": {"top_k": 2}, "options": {}})
    assert [entry["answer"] for entry in two.json] == [want.text, want.alternatives[0].text]
    many = call(application, "/", {"inputs": [inputs, inputs]})
    assert many.json == [one.json, one.json]


def test_hugging_face_classes(application: Application, classifying: Runtime) -> None:
    reply = call(application, "/", {"inputs": "the cat", "parameters": {"top_k": 3}})
    want = classifying.classify("the cat", top_k=3)
    labels = [want.label, *(other.label for other in want.alternatives)]
    assert [entry["label"] for entry in reply.json[0]] == labels


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"inputs": {"question": "a"}}, 400, "inputs: got the fields ['question']"),
        ({"inputs": 7}, 404, "there is none for such inputs"),
        ({"inputs": []}, 404, "there is none for such inputs"),
        ({"inputs": "a", "parameters": {"doc_stride": 3}}, 400, "parameters: got 'doc_stride'"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, 400, "top_k: got 0"),
        ({"inputs": {"question": 1, "context": "x"}}, 400, "question: got int, want str"),
        ({}, 400, "missing required field `inputs`"),
    ],
)
def test_hugging_face_mistakes(
    application: Application, body: Any, status: int, message: str
) -> None:
    reply = call(application, "/", body)
    assert reply.status == status, reply.body
    assert message in reply.json["error"]
