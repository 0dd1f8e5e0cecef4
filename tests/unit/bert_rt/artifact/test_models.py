"""Tests of a manifest's models: what version 2 says of the graphs and their outputs."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import (
    VERSION,
    Manifest,
    ModelEntry,
    manifest_from_json,
    manifest_to_json,
)
from bert_rt.errors import ArtifactFormatError, ArtifactVersionError
from bert_rt.types import PER_SEQUENCE, PER_TOKEN
from tests.unit.bert_rt.artifact.artifact_samples import FILES, sample_fields


def sample() -> Manifest:
    fields = sample_fields()
    fields["models"] = {
        "model": ModelEntry(file="model.onnx", outputs={"b": PER_TOKEN, "a": PER_SEQUENCE}),
        "embedder": ModelEntry(file="embedder.onnx", outputs={"vector": PER_SEQUENCE}),
    }
    return build_artifact(files={**FILES, "embedder.onnx": b"graph"}, **fields).manifest


def test_models_come_back() -> None:
    manifest = sample()
    data = manifest_to_json(manifest)
    values = json.loads(data)
    assert values["version"] == VERSION == 2
    assert values["models"] == {
        "embedder": {"file": "embedder.onnx", "outputs": {"vector": "sequence"}},
        "model": {"file": "model.onnx", "outputs": {"a": "sequence", "b": "token"}},
    }
    again = manifest_from_json(data)
    assert again == manifest and manifest_to_json(again) == data
    assert again.model == manifest.models["model"] and again.outputs == {
        "a": "sequence",
        "b": "token",
    }


_MODEL: dict[str, Any] = {"file": "model.onnx", "outputs": {"a": "token"}}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, r"manifest\.models: got None, want an object"),
        ([], r"manifest\.models: got \[\], want an object"),
        ({}, r"manifest\.models: got \{\}, want 1 to 16 graphs"),
        ({f"m{n}": _MODEL for n in range(17)}, r"manifest\.models: got .*, want 1 to 16 graphs"),
        ({"Model": _MODEL}, r"manifest\.models: got 'Model', want names of lower-case"),
        ({"": _MODEL}, r"manifest\.models: got '', want names of lower-case"),
        ({"model": "model.onnx"}, r"manifest\.models\.\*: got 'model.onnx', want an object"),
        ({"model": {"file": "model.onnx"}}, r"manifest\.models\.\*: .*wrong: \['outputs'\]"),
        ({"model": _MODEL | {"size": 1}}, r"manifest\.models\.\*: .*wrong: \['size'\]"),
        (
            {"model": _MODEL | {"file": "../model.onnx"}},
            r"manifest\.models\.\*\.file: got '../model.onnx', want plain file names",
        ),
        ({"model": _MODEL | {"file": 7}}, r"manifest\.models\.\*\.file: got 7, want plain"),
        (
            {"model": _MODEL | {"file": "other.onnx"}},
            r"manifest\.files: got .*, want other\.onnx among them",
        ),
        ({"model": _MODEL | {"outputs": {}}}, r"outputs: got \{\}, want 1 to 1024 outputs"),
        ({"model": _MODEL | {"outputs": ["a"]}}, r"outputs: got \['a'\], want an object"),
        (
            {"model": _MODEL | {"outputs": {"a": "word"}}},
            r"'a': got 'word', want one of token, seq",
        ),
        ({"model": _MODEL | {"outputs": {"a": None}}}, r"'a': got None, want one of token, seq"),
        ({"model": _MODEL | {"outputs": {"a": []}}}, r"'a': got \[\], want one of token, seq"),
        (
            {"model": _MODEL | {"outputs": {str(n): "token" for n in range(1025)}}},
            "outputs: got .*, want 1 to 1024 outputs",
        ),
    ],
)
def test_models_that_are_none(models: Any, message: str) -> None:
    values = json.loads(manifest_to_json(sample()))
    values["models"] = models
    with pytest.raises(ArtifactFormatError, match=message):
        manifest_from_json(json.dumps(values).encode())


def test_models_must_be_there() -> None:
    values = json.loads(manifest_to_json(sample()))
    del values["models"]
    with pytest.raises(ArtifactFormatError, match=r"manifest\.models: got None, want an object"):
        manifest_from_json(json.dumps(values).encode())


def test_there_may_be_no_graph_of_the_name_model() -> None:
    manifest = dataclasses.replace(sample(), models={"embedder": sample().models["embedder"]})
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    with pytest.raises(
        ArtifactFormatError, match=r"models: got \['embedder'\], want 'model' among"
    ):
        _ = manifest.model


@pytest.mark.parametrize("version", [0, 3, 2**31 - 1])
def test_versions_that_are_not_read(version: int) -> None:
    values: dict[str, Any] = json.loads(manifest_to_json(sample())) | {"version": version}
    with pytest.raises(ArtifactVersionError, match=rf"got {version}, want 1 to 2, which"):
        manifest_from_json(json.dumps(values).encode())
    for wrong in (None, "2", 2.0, True, -1):
        broken = copy.copy(values) | {"version": wrong}
        with pytest.raises(
            ArtifactFormatError, match=r"manifest\.version: got .*, want an integer"
        ):
            manifest_from_json(json.dumps(broken).encode())
