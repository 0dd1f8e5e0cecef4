"""What a manifest says of a decoder is read as it was written, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.artifact.artifact import build_artifact, load_artifact, write_artifact
from bert_rt.artifact.entries import ModelEntry
from bert_rt.artifact.manifest import manifest_from_json, manifest_to_json
from bert_rt.errors import ArtifactFormatError
from tests.support import seq2seq_artifacts

FILES = dict.fromkeys(
    ("encoder.onnx", "decoder.onnx", "tokenizer.json", "target_tokenizer.json"), b"x"
)


def content() -> dict[str, Any]:
    fields = seq2seq_artifacts.artifact_fields("float32", length_penalty=0.6, early_stopping=True)
    values: dict[str, Any] = json.loads(
        manifest_to_json(build_artifact(files=FILES, **fields).manifest)
    )
    return values


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    fields = seq2seq_artifacts.artifact_fields("float32", early_stopping="never")
    written = write_artifact(tmp_path / "art", files=FILES, **fields)
    read = load_artifact(tmp_path / "art")
    assert read.manifest == written.manifest
    assert read.manifest.decoder == fields["decoder"]
    assert read.manifest.graph("decoder").file == "decoder.onnx"
    data = (tmp_path / "art" / "manifest.json").read_bytes()
    assert manifest_to_json(manifest_from_json(data)) == data
    with pytest.raises(ArtifactFormatError, match="want 'model' among them"):
        _ = read.manifest.model


def test_it_is_left_out_where_there_is_none() -> None:
    fields = seq2seq_artifacts.artifact_fields("float32")
    fields["decoder"] = None
    values = json.loads(manifest_to_json(build_artifact(files=FILES, **fields).manifest))
    assert "decoder" not in values
    assert manifest_from_json(json.dumps(values).encode()).decoder is None


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("decoder",), None, "manifest.decoder: got None, want an object"),
        (("decoder", "more"), 1, "manifest.decoder: got .*, want the fields architecture,"),
        (("decoder", "tokenizer"), "../x", "manifest.decoder.tokenizer: got '../x'"),
        (("decoder", "tokenizer"), "gone.json", "want gone.json among them"),
        (("decoder", "architecture", "model_type"), "roberta", "architecture.model_type: got"),
        (("decoder", "architecture", "hidden_size"), 0, "manifest.decoder: .*hidden_size: got 0"),
        (("decoder", "architecture", "more"), 0, "decoder.architecture: got .* want the fields"),
        (("decoder", "generation", "num_beams"), 0, "decoder: num_beams: got 0"),
        (("decoder", "generation", "max_length"), 33, "max_length: got 33, want at most 32"),
        (("decoder", "generation", "eos_token_ids"), 3, "eos_token_ids: got 3, want a list"),
        (("decoder", "generation", "eos_token_ids"), [3, 99], r"eos_token_ids\[1\]: got 99"),
        (("decoder", "generation", "pad_token_id"), 15, "pad_token_id: got 15, want .* below 15"),
        (("decoder", "generation", "do_sample"), True, "decoder.generation: got .* the fields"),
    ],
)
def test_whatever_is_wrong_is_named(place: tuple[str, ...], value: Any, message: str) -> None:
    values = content()
    *path, name = place
    target = values
    for part in path:
        target = target[part]
    target[name] = value
    with pytest.raises(ArtifactFormatError, match=message):
        manifest_from_json(json.dumps(values).encode())


def test_version_1_has_none() -> None:
    values = content() | {"version": 1}
    del values["models"]
    with pytest.raises(ArtifactFormatError, match="got 'decoder', want no field of version 2"):
        manifest_from_json(json.dumps(values).encode())


def test_graphs_have_files() -> None:
    fields = seq2seq_artifacts.artifact_fields("float32")
    fields["models"] = {
        **fields["models"],
        "more": ModelEntry(file="a.onnx", outputs={"x": "token"}),
    }
    with pytest.raises(ArtifactFormatError, match=r"want a\.onnx among them"):
        build_artifact(files=FILES, **fields)
