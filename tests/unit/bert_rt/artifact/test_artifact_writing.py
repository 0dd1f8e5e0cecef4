"""Writing an artifact: whole or not at all, and over nothing that is not one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bert_rt.artifact.artifact import check_output_dir, load_artifact, write_artifact
from bert_rt.errors import ArtifactError
from tests.unit.bert_rt.artifact.artifact_samples import FILES, sample_fields, write_sample


def _names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_an_artifact_is_replaced(tmp_path: Path) -> None:
    write_sample(tmp_path / "art")
    files = {"model.onnx": b"new", "tokenizer.json": b"{}"}
    write_artifact(tmp_path / "art", files=files, **sample_fields())
    assert load_artifact(tmp_path / "art").read("model.onnx") == b"new"
    assert _names(tmp_path / "art") == ["manifest.json", "model.onnx", "tokenizer.json"]
    assert _names(tmp_path) == ["art"]


def test_parents_are_made_and_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "a" / "art").mkdir(parents=True)
    write_sample(tmp_path / "a" / "art")
    write_sample(tmp_path / "b" / "c" / "art")
    assert _names(tmp_path / "a") == _names(tmp_path / "b" / "c") == ["art"]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_what_is_no_artifact_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"format": "mine"}')
    with pytest.raises(ArtifactError, match=r"holds files that are not part of an artifact"):
        write_sample(tmp_path)
    assert _names(tmp_path) == [name]


def test_an_artifact_with_other_files_in_it_is_not_replaced(tmp_path: Path) -> None:
    write_sample(tmp_path / "art")
    (tmp_path / "art" / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match=r"holds files that are not part of an artifact"):
        write_sample(tmp_path / "art")
    assert (tmp_path / "art" / "thesis.tex").read_text() == "years of work"
    assert _names(tmp_path) == ["art"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "art").write_text("x")
    for target in (tmp_path / "art", tmp_path / "art" / "below"):
        with pytest.raises(ArtifactError, match=r"cannot be written: Not a directory"):
            write_sample(target)
    assert (tmp_path / "art").read_text() == "x"


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_disk_full_leaves_the_old_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_sample(tmp_path / "art")

    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    fields = sample_fields()
    fields["provenance"] = {}
    with pytest.raises(ArtifactError, match=r"art: .*cannot be written: No space left on device"):
        write_artifact(tmp_path / "art", files=FILES, **fields)
    monkeypatch.undo()
    assert _names(tmp_path) == ["art"]
    assert load_artifact(tmp_path / "art").manifest.provenance != {}


def test_the_old_artifact_comes_back_where_the_new_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample(tmp_path / "art")
    rename, calls = os.rename, []

    def fail_second(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_second)
    with pytest.raises(ArtifactError, match=r"Input/output error"):
        write_sample(tmp_path / "art")
    assert _names(tmp_path) == ["art"]
    assert load_artifact(tmp_path / "art").read("model.onnx") == FILES["model.onnx"]


_WRITE_UNDER_A_REAL_LIMIT = """
import resource, sys
from pathlib import Path
from tests.unit.bert_rt.artifact.artifact_samples import write_sample
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_sample(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_real_limit_of_the_system_leaves_nothing(tmp_path: Path) -> None:
    # Set in a child, where it cannot hurt this process.
    result = subprocess.run(
        [sys.executable, "-c", _WRITE_UNDER_A_REAL_LIMIT, str(tmp_path / "art")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path(__file__).parents[4],
    )
    assert result.stdout.startswith("ArtifactError"), result.stdout + result.stderr
    assert "art: the artifact cannot be written: File too large" in result.stdout
    assert _names(tmp_path) == []


# Asked before the work


@pytest.mark.parametrize("kind", ["absent", "empty", "artifact"])
def test_an_output_directory_that_may_be_written(tmp_path: Path, kind: str) -> None:
    if kind == "empty":
        (tmp_path / "art").mkdir()
    elif kind == "artifact":
        write_sample(tmp_path / "art")
    before = sorted(tmp_path.rglob("*"))
    check_output_dir(tmp_path / "art")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_directory_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds files that are not part of an artifact"):
        check_output_dir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot be written"):
        check_output_dir(tmp_path / "file")
