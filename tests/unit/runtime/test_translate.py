"""python -m runtime.translate as users run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt import Runtime
from bert_rt.artifact.artifact import write_artifact
from bert_rt.support.cli import run_command
from runtime import translate
from tests.support import seq2seq_artifacts

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("translate") / "art"
    write_artifact(
        path,
        files=seq2seq_artifacts.artifact_files(is_int8=False),
        **seq2seq_artifacts.artifact_fields("float32"),
    )
    return path


def run(artifact: Path, *arguments: object) -> int:
    flags = ("--artifact", artifact, "--engine", "onnxruntime", "--num_threads", 1)
    return run_command(translate.main, [str(each) for each in (*flags, *arguments)])


def test_a_text(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--num_beams", 3, "--top_k", 2, "--max_new_tokens", 8, "--length_penalty", 0.5)
    assert run(artifact, "--text", "The cat sat. Who is in Paris?", *flags) == 0
    got = json.loads(capsys.readouterr().out)
    with Runtime.load(artifact, engine="onnxruntime", num_threads=1) as runtime:
        want = runtime.translate(
            "The cat sat. Who is in Paris?",
            top_k=2,
            num_beams=3,
            max_new_tokens=8,
            length_penalty=0.5,
        )
    assert got["translation"] == want.text
    assert [s["text"] for s in got["sentences"]] == [s.text for s in want.sentences]
    assert all(len(sentence["alternatives"]) == 1 for sentence in got["sentences"])


def test_lines(
    artifact: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    lines = '{"text": "the cat", "id": 7}\n{"text": "who sat"}\n{"text": ""}\n'
    file = tmp_path / "lines"
    file.write_text(lines)
    with file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run(artifact) == 2
    captured = capsys.readouterr()
    first, second = map(json.loads, captured.out.splitlines())
    assert first["id"] == 7 and "id" not in second
    assert first["translation"] and "line 3" in captured.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_beams", 0), "num_beams: got 0"),
        (("--top_k", 9), "top_k: got 9, want at most as many as num_beams (4)"),
        (("--max_new_tokens", 0), "max_new_tokens: got 0"),
        (("--max_seq_length", 64), "max_seq_length: got 64"),
        (("--engine", "reference"), "does not run artifacts with a decoder"),
    ],
)
def test_what_cannot_be(
    artifact: Path, capsys: pytest.CaptureFixture[str], flags: Any, message: str
) -> None:
    assert run(artifact, "--text", "the cat", *flags) == 2
    assert message in capsys.readouterr().err


def test_an_artifact_of_another_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tests.support.artifacts import write_tiny_artifact

    write_tiny_artifact(tmp_path / "art")
    assert run(tmp_path / "art", "--text", "the cat") == 2
    assert "question-answering" in capsys.readouterr().err
