"""The artifact: what is written is what is read, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.artifact import artifact as artifact_module
from bert_rt.artifact.artifact import (
    VERSION,
    Manifest,
    build_artifact,
    default_artifact_path,
    load_artifact,
    write_artifact,
)
from bert_rt.artifact.manifest import manifest_from_json, manifest_to_json
from bert_rt.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactNotFoundError,
    ArtifactVersionError,
)
from bert_rt.model.config import BertConfig, to_dict
from bert_rt.tasks.limits import AnsweringConfig
from tests.unit.bert_rt.artifact.artifact_samples import FILES, sample_fields, write_sample


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def _edit(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# Round trip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = write_sample(tmp_path / "art")
    read = load_artifact(tmp_path / "art")
    assert read.manifest == written.manifest
    assert {name: read.read(name) for name in read.manifest.files} == FILES
    assert read.path == tmp_path / "art"
    assert _names(tmp_path) == ["art"]
    assert _names(tmp_path / "art") == sorted([*FILES, "manifest.json"])


def test_fields_come_back_with_their_types() -> None:
    fields = sample_fields()
    manifest = build_artifact(files=FILES, **fields).manifest
    again = manifest_from_json(manifest_to_json(manifest))
    assert again == manifest
    for name, value in fields.items():
        assert getattr(again, name) == value
        assert type(getattr(again, name)) is type(value)


def test_json_is_deterministic_and_ascii() -> None:
    fields = sample_fields()
    one = manifest_to_json(build_artifact(files=FILES, **fields).manifest)
    fields["fusions"] = dict(reversed(fields["fusions"].items()))
    two = manifest_to_json(build_artifact(files=dict(reversed(FILES.items())), **fields).manifest)
    assert one == two == manifest_to_json(manifest_from_json(one))
    assert one.isascii() and one.endswith(b"}\n")
    values = json.loads(one)
    assert values["format"] == "bert-rt-artifact" and values["version"] == VERSION == 2
    assert values["architecture"]["model_type"] == "bert"
    digest = hashlib.sha256(FILES["model.onnx"]).hexdigest()
    assert values["files"]["model.onnx"] == {"sha256": digest, "size": 2048}


def test_free_form_fields_are_copies() -> None:
    provenance: dict[str, Any] = {"data": ("a", "b")}
    fields = sample_fields() | {"provenance": provenance}
    manifest = build_artifact(files=FILES, **fields).manifest  # type: ignore[misc]
    provenance["data"] = "changed"
    assert manifest.provenance == {"data": ["a", "b"]}


def test_text_classification_has_labels_and_its_own_self_test() -> None:
    fields = sample_fields()
    fields["task"] = "text-classification"
    fields["labels"] = ("negative", "positive")
    fields["self_test"] = ({"text": "Good.", "text_pair": None, "logits": [-1.5, 2]},)
    manifest = build_artifact(files=FILES, **fields).manifest
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_files_are_taken_from_paths(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    files = {"model.onnx": tmp_path / "m", "tokenizer.json": b"{}"}
    assert build_artifact(files=files, **sample_fields()).read("model.onnx") == b"model"
    with pytest.raises(ArtifactError, match=r"absent: cannot be read: No such file"):
        build_artifact(files=files | {"a": tmp_path / "absent"}, **sample_fields())


# Reading


def test_read_returns_the_bytes_that_were_hashed(tmp_path: Path) -> None:
    write_sample(tmp_path / "art")
    artifact = load_artifact(tmp_path / "art")
    (tmp_path / "art" / "model.onnx").write_bytes(b"something else")
    assert artifact.read("model.onnx") == FILES["model.onnx"]
    assert artifact.read("model.onnx") is artifact.read("model.onnx")


def test_read_after_release_verifies_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sample(Path("art"))
    artifact = load_artifact("art")
    artifact.release("model.onnx")
    artifact.release("model.onnx")
    monkeypatch.chdir("/")
    assert artifact.read("model.onnx") == FILES["model.onnx"]
    (tmp_path / "art" / "model.onnx").write_bytes(FILES["model.onnx"][::-1])
    with pytest.raises(ArtifactFormatError, match=r"damaged or was changed"):
        artifact.read("model.onnx")


def test_memory_only_artifact_keeps_its_content() -> None:
    artifact = build_artifact(files=FILES, **sample_fields())
    artifact.release("model.onnx")
    assert artifact.read("model.onnx") == FILES["model.onnx"]
    assert artifact.path is None and "in memory" in repr(artifact)


def test_unknown_file_name_lists_the_known_ones(tmp_path: Path) -> None:
    artifact = write_sample(tmp_path / "art")
    with pytest.raises(ArtifactNotFoundError, match=r"'weights'; it has model.onnx, report"):
        artifact.read("weights")


def test_extra_files_are_ignored(tmp_path: Path) -> None:
    write_sample(tmp_path / "art")
    (tmp_path / "art" / "notes.txt").write_text("mine")
    assert "notes.txt" not in load_artifact(tmp_path / "art").manifest.files


def test_links_inside_the_directory_are_followed(tmp_path: Path) -> None:
    # As in a mounted volume: names are links into a hidden directory that is swapped on updates.
    art = tmp_path / "art"
    write_sample(art)
    (art / "..data").mkdir()
    for name in _names(art):
        if name != "..data":
            (art / name).rename(art / "..data" / name)
            (art / name).symlink_to(Path("..data") / name)
    (tmp_path / "link").symlink_to(art)
    assert load_artifact(tmp_path / "link").read("model.onnx") == FILES["model.onnx"]


def test_absent_directory(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"nowhere: there is no such directory"):
        load_artifact(tmp_path / "nowhere")


def test_a_file_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactNotFoundError, match=r"is a file"):
        load_artifact(tmp_path / "model.onnx")


def test_a_checkpoint_says_how_to_compile_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactNotFoundError, match=r"python -m compile\.export .*--int8"):
        load_artifact(tmp_path)


def test_an_empty_directory_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"has no manifest\.json"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("version", [0, VERSION + 1, 99])
def test_other_versions_are_refused_by_number(tmp_path: Path, version: int) -> None:
    write_sample(tmp_path / "art")
    _edit(tmp_path / "art", version=version, files="of another shape in that version")
    with pytest.raises(ArtifactVersionError, match=rf"got {version}, want 1 to 2, ") as caught:
        load_artifact(tmp_path / "art")
    assert str(tmp_path / "art") in str(caught.value)


def test_default_model_is_an_artifact_or_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_module, "__file__", str(tmp_path / "artifact" / "artifact.py"))
    with pytest.raises(ArtifactNotFoundError, match=r"no embedded default model .*--artifact"):
        default_artifact_path()
    write_sample(tmp_path / "default_model")
    assert default_artifact_path() == tmp_path / "default_model"


# Manifests that contradict themselves


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "Translation!"}, "manifest.task: got 'Translation!'"),
        ({"task": None}, "manifest.task: got None"),
        ({"precision": "int4"}, "manifest.precision: got 'int4'"),
        ({"architecture": {"hidden_size": 4}}, "manifest.architecture: got"),
        (
            {"limits": to_dict(AnsweringConfig(max_seq_length=1024))},
            r"limits.max_seq_length: got 1024, want at most the model's longest sequence \(512\)",
        ),
        ({"fusions": {"gelu": -1}}, r"manifest.fusions.'gelu': got -1"),
        ({"fusions": {"gelu": 1.0}}, r"manifest.fusions.'gelu': got 1.0"),
        ({"quantization": {"scale": float("nan")}}, r"manifest.quantization: got nan"),
        ({"quantization": {"pair_safe": 1}}, r"manifest.quantization.pair_safe: got 1"),
        ({"provenance": {1: "a"}}, r"manifest.provenance: got 1, want a name"),
        ({"provenance": {"path": Path("a")}}, r"want a JSON value"),
        ({"provenance": {"n": 2**70}}, r"huge integer"),
        ({"receipt": "good"}, r"manifest.receipt: got 'good', want an object"),
        (
            {"score_temperature": 0.0},
            r"manifest.score_temperature: got 0.0, want a number from 0.01",
        ),
        ({"score_temperature": -1}, "manifest.score_temperature: got -1"),
        ({"score_temperature": 101}, "manifest.score_temperature: got 101"),
        ({"score_temperature": float("nan")}, "manifest.score_temperature: got nan"),
        ({"score_temperature": True}, "manifest.score_temperature: got True"),
        ({"score_temperature": "1"}, "manifest.score_temperature: got '1'"),
        ({"labels": "ab"}, r"manifest.labels: got 'ab', want a list"),
        ({"task": "text-classification", "labels": ("a", "a")}, r"want different strings"),
        ({"extensions": {"team": 1}}, r"want names that start with 'x_'"),
        ({"self_test": ("a",)}, r"manifest.self_test\[0\]: got 'a', want an object"),
        ({"limits": {}}, r"manifest.limits.max_seq_length: got None, want an integer"),
        ({"limits": {"max_seq_length": True}}, r"manifest.limits.max_seq_length: got True"),
        ({"limits": AnsweringConfig()}, r"manifest.limits: got AnsweringConf.*, want a JSON value"),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, Any], message: str) -> None:
    manifest = build_artifact(files=FILES, **sample_fields()).manifest
    with pytest.raises(ArtifactFormatError, match=message):
        dataclasses.replace(manifest, **changes)


def test_the_model_and_tokenizer_are_required() -> None:
    with pytest.raises(ArtifactFormatError, match=r"want tokenizer\.json among them"):
        build_artifact(files={"model.onnx": b""}, **sample_fields())


def test_every_field_but_one_is_required_in_json() -> None:
    values = json.loads(manifest_to_json(build_artifact(files=FILES, **sample_fields()).manifest))
    optional = ("x_team", "score_temperature")
    for name in [name for name in values if name not in optional]:
        rest = {key: value for key, value in values.items() if key != name}
        with pytest.raises(ArtifactFormatError):
            manifest_from_json(json.dumps(rest).encode())


def test_scores_of_older_artifacts_are_as_they_were() -> None:
    fields = sample_fields()
    del fields["score_temperature"]
    plain = manifest_to_json(build_artifact(files=FILES, **fields).manifest)
    assert b"score_temperature" not in plain
    manifest = manifest_from_json(plain)
    assert manifest.score_temperature == 1.0
    # Written as before, too, so that older releases read it.
    assert manifest_to_json(manifest) == plain
    manifest_json = {**json.loads(plain), "score_temperature": 1}
    assert manifest_from_json(json.dumps(manifest_json).encode()) == manifest
    manifest_json["score_temperature"] = None
    with pytest.raises(ArtifactFormatError, match=r"score_temperature: got None, want a number"):
        manifest_from_json(json.dumps(manifest_json).encode())


def test_architecture_is_never_guessed() -> None:
    values = json.loads(manifest_to_json(build_artifact(files=FILES, **sample_fields()).manifest))
    del values["architecture"]["hidden_size"]
    with pytest.raises(ArtifactFormatError, match=r"architecture: .*wrong: \['hidden_size'\]"):
        manifest_from_json(json.dumps(values).encode())


def test_a_manifest_too_long_to_read_is_not_written(tmp_path: Path) -> None:
    fields = sample_fields()
    fields["provenance"] = {"log": "x" * (16 * 2**20)}
    with pytest.raises(ArtifactFormatError, match=r"want at most 16777216 bytes"):
        write_artifact(tmp_path / "art", files=FILES, **fields)
    assert _names(tmp_path) == []


def test_manifest_is_frozen() -> None:
    manifest = build_artifact(files=FILES, **sample_fields()).manifest
    assert isinstance(manifest, Manifest) and isinstance(manifest.architecture, BertConfig)
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.task = "other"  # type: ignore[misc]
