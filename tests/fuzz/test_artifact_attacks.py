"""Hostile artifacts: whatever is done to one, reading it gives a typed error and nothing else.

Every test here ends in `pytest.raises(ArtifactError)` or reads an artifact that is still valid;
any other exception, a hang or a silent success is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_rt.artifact.artifact import Artifact, load_artifact
from bert_rt.errors import ArtifactError, ArtifactFormatError, ArtifactNotFoundError
from tests.unit.bert_rt.artifact.artifact_samples import FILES, write_sample

_FUZZ = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def art(tmp_path: Path) -> Path:
    """A valid artifact, which a test then damages."""
    write_sample(tmp_path / "art")
    return tmp_path / "art"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid artifact that no test changes."""
    path = tmp_path_factory.mktemp("sample") / "art"
    write_sample(path)
    return path


def _values(directory: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "manifest.json").read_bytes())
    return values


def _rewrite(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = _values(directory)
    change(values)
    (directory / "manifest.json").write_text(json.dumps(values))


def _rename_file(directory: Path, old: str, new: str) -> None:
    _rewrite(directory, lambda values: values["files"].update({new: values["files"].pop(old)}))


def _read_all(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.read(name) for name in artifact.manifest.files}


# Damaged files


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_truncated(art: Path, name: str) -> None:
    data = (art / name).read_bytes()
    for length in {0, 1, len(data) // 2, len(data) - 1}:
        (art / name).write_bytes(data[:length])
        if name == "manifest.json" and length == len(data) - 1:
            continue  # only the final newline is gone
        with pytest.raises(ArtifactFormatError):
            load_artifact(art)


@pytest.mark.parametrize("name", FILES)
def test_one_byte_more(art: Path, name: str) -> None:
    (art / name).write_bytes(FILES[name] + b"\0")
    with pytest.raises(ArtifactFormatError, match=r"has \d+ bytes, want"):
        load_artifact(art)


@pytest.mark.parametrize("name", FILES)
def test_missing(art: Path, name: str) -> None:
    (art / name).unlink()
    with pytest.raises(ArtifactFormatError, match=rf"{name}: is named in the manifest and missing"):
        load_artifact(art)


def test_flipped_bits_of_files(art: Path) -> None:
    for name, data in FILES.items():
        for position in range(0, len(data), max(1, len(data) // 37)):
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            (art / name).write_bytes(damaged)
            with pytest.raises(ArtifactFormatError, match="is damaged or was changed"):
                load_artifact(art)
        (art / name).write_bytes(data)
    assert _read_all(load_artifact(art)) == FILES


def test_swapped_files(art: Path) -> None:
    (art / "model.onnx").rename(art / "t")
    (art / "tokenizer.json").rename(art / "model.onnx")
    (art / "t").rename(art / "tokenizer.json")
    with pytest.raises(ArtifactFormatError):
        load_artifact(art)


def test_swapped_files_of_one_size(art: Path) -> None:
    (art / "tokenizer.json").write_bytes(FILES["tokenizer.json"][::-1])
    with pytest.raises(ArtifactFormatError, match="SHA-256"):
        load_artifact(art)


@pytest.mark.parametrize(
    "digest", ["", "0" * 64, "0" * 63, "g" * 64, "A" * 64, "\u0660" * 64, None]
)
def test_wrong_hashes(art: Path, digest: str | None) -> None:
    _rewrite(art, lambda values: values["files"]["model.onnx"].update(sha256=digest))
    with pytest.raises(ArtifactFormatError):
        load_artifact(art)


@pytest.mark.parametrize(
    "size",
    ["-1", "0", "2047", "2049", "2048.0", "2e3", '"2048"', "true", "null"]
    + [f"{2**31}", f"{2**63}", f"1{'0' * 30}", f"1{'0' * 5000}"],
    ids=lambda size: size[:30],
)
def test_wrong_sizes(art: Path, size: str) -> None:
    _rewrite(art, lambda values: values["files"]["model.onnx"].update(size="SIZE"))
    path = art / "manifest.json"
    path.write_text(path.read_text().replace('"SIZE"', size))
    with pytest.raises(ArtifactFormatError):
        load_artifact(art)


# Names that lead elsewhere


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "..",
        ".",
        "",
        "/etc/passwd",
        "sub/model.onnx",
        "sub\\model.onnx",
        "..\\secret",
        "C:\\secret",
        "C:secret",
        "\\\\host\\share",
        "model.onnx\0.txt",
        "\0",
        ".hidden",
        "-rf",
        "model.onnx\n",
        "mod\u00e9l",
        "\uff0e\uff0e",
        "\ud800",
        "a" * 129,
        "~root",
        "con:",
        "manifest.json",
    ],
)
def test_names_that_are_not_plain(art: Path, name: str) -> None:
    (art.parent / "secret").write_bytes(FILES["report.html"])
    _rename_file(art, "report.html", name)
    with pytest.raises(ArtifactFormatError):
        load_artifact(art)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_links_that_leave_the_directory(art: Path, name: str) -> None:
    (art / name).rename(art.parent / "outside")
    (art / name).symlink_to(Path("..") / "outside")
    with pytest.raises(ArtifactFormatError, match="is a link that leaves the artifact directory"):
        load_artifact(art)


def test_links_that_leave_through_another_link(art: Path) -> None:
    (art / "model.onnx").rename(art.parent / "outside")
    (art / "hop").symlink_to(art.parent)
    (art / "model.onnx").symlink_to(Path("hop") / "outside")
    with pytest.raises(ArtifactFormatError, match="is a link that leaves"):
        load_artifact(art)


def test_a_neighbour_whose_name_starts_alike_is_outside(art: Path) -> None:
    (art.parent / "art2").mkdir()
    (art / "model.onnx").rename(art.parent / "art2" / "model.onnx")
    (art / "model.onnx").symlink_to(art.parent / "art2" / "model.onnx")
    with pytest.raises(ArtifactFormatError, match="is a link that leaves"):
        load_artifact(art)


def test_links_in_a_circle_and_to_nothing(art: Path) -> None:
    (art / "model.onnx").unlink()
    (art / "model.onnx").symlink_to("model.onnx")
    with pytest.raises(ArtifactError):
        load_artifact(art)
    (art / "model.onnx").unlink()
    (art / "model.onnx").symlink_to("nothing")
    with pytest.raises(ArtifactFormatError, match="missing"):
        load_artifact(art)


# Things that are no regular files


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_directories_and_pipes_in_place_of_files(art: Path, name: str) -> None:
    (art / name).unlink()
    (art / name).mkdir()
    with pytest.raises(ArtifactError):
        load_artifact(art)
    (art / name).rmdir()
    os.mkfifo(art / name)  # opening it would wait for a writer for ever
    with pytest.raises(ArtifactFormatError, match="is no regular file"):
        load_artifact(art)


def test_a_sparse_manifest_of_a_terabyte_is_not_read(art: Path) -> None:
    os.truncate(art / "manifest.json", 2**40)
    with pytest.raises(ArtifactFormatError, match=r"want at most 16777216"):
        load_artifact(art)


@pytest.mark.parametrize("path", ["", "\0", "a\0b", "a" * 5000, "\ud800"])
def test_paths_that_no_file_system_takes(path: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        load_artifact(tmp_path / path)


# Hostile JSON


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"null",
        b"[]",
        b'"bert-rt-artifact"',
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"format": "bert-rt-artifact", "format": "bert-rt-artifact"}',
        b"[" * 10_000_000,
        b'{"a":' * 3_000_000,
        b"[" * 100 + b"]" * 100,
        b'{"format": "bert-rt-artifact", "version": NaN}',
        b'{"format": "bert-rt-artifact", "version": 1e999}',
        b'{"format": "bert-rt-artifact", "version": Infinity}',
        b'{"format": "bert-rt-artifact", "version": ' + b"9" * 1_000_000 + b"}",
        b'{"format": "bert-rt-artifact", "version": -' + b"9" * 1_000_000 + b"}",
        b'{"format": "bert-rt-artifact", "version": 0.' + b"9" * 1_000_000 + b"}",
        b'{"format": "bert-rt-artifact", "version": 1.0}',
        b'{"format": "bert-rt-artifact", "version": true}',
        b'{"format": "bert-rt-artifact", "version": "1"}',
        b'{"format": ["bert-rt-artifact"], "version": 1}',
        b'{"format": "bert-rt-artifact", "version": 1, "x_": "\\ud800"}',
        b" " * (16 * 2**20 + 1),
    ],
    ids=lambda text: f"{text[:40]!r}x{len(text)}",
)
def test_json_that_is_no_manifest(art: Path, text: bytes) -> None:
    (art / "manifest.json").write_bytes(text)
    with pytest.raises(ArtifactFormatError) as caught:
        load_artifact(art)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000


@pytest.mark.parametrize("where", ["architecture", "files", "receipt"])
def test_equal_keys_are_refused_at_every_level(art: Path, where: str) -> None:
    path = art / "manifest.json"
    path.write_text(path.read_text().replace(f'"{where}": {{', f'"{where}": {{"a": 1, "a": 2,'))
    with pytest.raises(ArtifactFormatError, match="no name twice"):
        load_artifact(art)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 10**9),
        ("hidden_size", 33),
        ("num_hidden_layers", 10**6),
        ("vocab_size", -1),
        ("vocab_size", 2**63),
        ("layer_norm_eps", 1e300),
        ("hidden_act", "__import__('os')"),
        ("model_type", "gpt2"),
        ("model_type", "electra"),  # without its embedding_size
        ("model_type", "distilbert"),  # with token types, which it does not have
        ("max_position_embeddings", 16),
        ("more", 1),
    ],
)
def test_absurd_architectures(art: Path, field: str, value: object) -> None:
    _rewrite(art, lambda values: values["architecture"].update({field: value}))
    with pytest.raises(ArtifactFormatError):
        load_artifact(art)


def test_too_many_files(art: Path) -> None:
    entry = _values(art)["files"]["report.html"]
    more = {f"f{index}": entry for index in range(65)}
    _rewrite(art, lambda values: values["files"].update(more))
    with pytest.raises(ArtifactFormatError, match="want at most 64"):
        load_artifact(art)


@_FUZZ
@given(name=st.text(max_size=12))
def test_any_file_name(name: str, sample: Path, tmp_path: Path) -> None:
    directory = tmp_path / "art"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(sample, directory)
    (tmp_path / "outside").write_bytes(FILES["report.html"])
    try:
        _rename_file(directory, "report.html", name)
        artifact = load_artifact(directory)
    except ArtifactError:
        return
    assert name == "report.html" or os.path.dirname(directory / name) == str(directory)
    assert artifact.read(name) == FILES["report.html"]


def test_not_found_differs_from_damaged(art: Path) -> None:
    (art / "manifest.json").unlink()
    with pytest.raises(ArtifactNotFoundError):
        load_artifact(art)
