"""python -m compile.export on a tiny checkpoint, from flags to files."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.engines.registry import missing
from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import build_model
from bert_rt.tasks.question_answering.evaluation import evaluate
from bert_rt.tasks.question_answering.squad import read_squad
from compile import export
from tests.unit.compile import tiny

_ROOT = Path(__file__).parents[2]
_ENGINES = ("onnxruntime", "openvino", "native")
_PAIRS = [(example.question, example.context) for example in tiny.examples(12, seed=5)]


def run(*arguments: object) -> int:
    return run_command(export.main, [str(argument) for argument in arguments])


def common(output_dir: Path) -> list[object]:
    checkpoint = tiny.exports().checkpoint
    return [
        *("--model_name_or_path", checkpoint, "--output_dir", output_dir),
        *tiny.LIMIT_FLAGS,
    ]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def quick_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds that tracing takes, where what comes after it is tested."""
    tiny.exports()
    monkeypatch.setattr("compile.tasks.base.trace", lambda loaded: tiny.traced())


# What is written


def test_float_artifact() -> None:
    artifact = load_artifact(tiny.exports().float_dir)
    manifest = artifact.manifest
    assert (manifest.task, manifest.precision) == ("question-answering", "float32")
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "report.html"}
    assert manifest.receipt is None
    # Nothing was calibrated, and nothing evaluated.
    assert manifest.provenance["data"] == {}
    for engine in (engine for engine in _ENGINES if missing(engine, artifact) is None):
        with Runtime.load(artifact.path, engine=engine) as runtime:
            assert runtime.info.precision == "float32"
            answers = runtime.answer_batch(_PAIRS)
        for (_, context), answer in zip(_PAIRS, answers, strict=True):
            assert context[answer.start : answer.end] == answer.text


def test_the_float_artifact_is_the_checkpoint() -> None:
    made = tiny.exports()
    loads = {"onnxruntime": {}, "torch": {"checkpoint": made.checkpoint}}
    scores = []
    for engine, options in loads.items():
        with Runtime.load(made.float_dir, engine=engine, **options) as runtime:
            scores.append([a.logit for a in runtime.answer_batch(_PAIRS)])
    np.testing.assert_allclose(*scores, rtol=0, atol=2e-3)


def test_int8_artifact() -> None:
    made = tiny.exports()
    artifact = load_artifact(made.int8_dir)
    manifest = artifact.manifest
    assert manifest.precision == "int8"
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "report.html"}
    float_size = load_artifact(made.float_dir).manifest.files["model.onnx"].size
    assert manifest.files["model.onnx"].size < 0.7 * float_size
    receipt = manifest.receipt
    assert receipt is not None
    assert receipt["dataset"]["total"] == len(read_squad(made.eval_file))
    wanted = {"f1": 100.0, "exact_match": 100.0, "f1_interval": [100.0, 100.0]}
    assert {name: receipt["float"][name] for name in wanted} == wanted
    able = [engine for engine in _ENGINES if missing(engine, artifact) is None]
    assert set(receipt["int8"]) == set(able) >= {"onnxruntime"}
    for engine in able:
        with Runtime.load(made.int8_dir, engine=engine) as runtime:
            result = evaluate(runtime, read_squad(made.eval_file))
        assert receipt["int8"][engine]["f1"] == pytest.approx(result.f1)
        assert 50 < result.f1 <= 100
        low, high = receipt["int8"][engine]["f1_difference_interval"]
        assert low < result.f1 - 100 < high


def test_the_report_is_about_this_artifact() -> None:
    made = tiny.exports()
    report = (made.int8_dir / "report.html").read_text()
    for name in tiny.ENCODER_LINEARS:
        assert name in report
    assert "evaluation.json" in report and "Gate: passed" in report
    assert "Not measured" in (made.float_dir / "report.html").read_text()


def test_the_same_artifact_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny.exports()
    flags = ["--int8", "--calibration-file", made.calibration_file]
    assert run(*common(tmp_path / "art"), *flags) == 0
    out = capsys.readouterr().out
    assert "int8, " in out and "accuracy: not measured" in out
    again, first = content(tmp_path / "art"), content(made.int8_dir)
    assert again["model.onnx"] == first["model.onnx"]
    assert again["tokenizer.json"] == first["tokenizer.json"]


def test_as_a_process(tmp_path: Path) -> None:
    output_json = tmp_path / "output.json"
    command = [*common(tmp_path / "art"), "--json", output_json]
    result = subprocess.run(
        [sys.executable, "-m", "compile.export", *map(str, command)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    size = (tmp_path / "art" / "model.onnx").stat().st_size
    assert result.stdout.splitlines()[0] == f"{tmp_path / 'art'}: float32, {size} bytes"
    assert json.loads(output_json.read_text()) == {
        "artifact": str(tmp_path / "art"),
        "receipt": None,
    }
    assert result.stderr.startswith("compare with PyTorch: ")
    assert len(result.stderr.splitlines()) == 1  # no warning of any library


@pytest.mark.usefixtures("quick_trace")
def test_float_with_a_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny.exports()
    output_json = tmp_path / "output.json"
    # Of the text to calibrate on, what is set aside serves the scores.
    files = ["--calibration_file", made.calibration_file, "--eval_file", made.eval_file]
    assert run(*common(tmp_path / "art"), *files, "--json", output_json) == 0
    assert "accuracy: float F1 100.00\n" in capsys.readouterr().out
    manifest = load_artifact(tmp_path / "art").manifest
    assert json.loads(output_json.read_text())["receipt"] == manifest.receipt
    assert manifest.receipt is not None and "int8" not in manifest.receipt
    assert set(manifest.provenance["data"]) == {"calibration_file", "eval_file"}
    assert manifest.provenance["score_calibration"]["total"] == 8


# What is not written


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error, which is one line and the last one; those before tell of progress."""
    *progress, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not any(other.startswith(("error", "Traceback")) for other in progress)
    return line


@pytest.mark.usefixtures("quick_trace")
@pytest.mark.parametrize("older", [False, True])
def test_a_failing_gate_writes_nothing(
    older: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tiny.exports()
    output_dir = tmp_path / "art"
    if older:
        shutil.copytree(made.float_dir, output_dir)
    before = content(output_dir) if older else {}
    output_json = tmp_path / "output.json"
    flags = [*tiny.int8_flags(made), "--min_f1_ratio", 1, "--json", output_json]
    assert run(*common(output_dir), *flags) == 2
    line = last_line(capsys)
    assert line.startswith("error: min_f1_ratio: INT8 on onnxruntime has F1 9")
    assert "float 100.00" in line and "encoder.layer.0." in line
    # No artifact, nothing half-written beside it, no result.
    assert [path.name for path in tmp_path.iterdir()] == (["art"] if older else [])
    if older:
        assert content(output_dir) == before


@pytest.mark.usefixtures("quick_trace")
def test_a_loss_that_may_be_large_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*tiny.int8_flags(tiny.exports()), "--min_f1_ratio", 0, "--max_f1_loss", 0.1]
    assert run(*common(tmp_path / "art"), *flags) == 2
    line = last_line(capsys)
    assert line.startswith("error: max_f1_loss: INT8 on onnxruntime has F1 9")
    assert "with 95 % confidence, want more than -0.1" in line
    assert "the 100 passages of this evaluation file" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_trace")
def test_a_directory_with_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = tmp_path / "thesis"
    output_dir.mkdir()
    (output_dir / "chapter-1.txt").write_text("by hand")
    assert run(*common(output_dir)) == 2
    assert "it holds files that are not part of an artifact" in last_line(capsys)
    assert content(output_dir) == {"chapter-1.txt": b"by hand"}
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.usefixtures("quick_trace")
def test_an_older_artifact_is_replaced(tmp_path: Path) -> None:
    output_dir = tmp_path / "art"
    shutil.copytree(tiny.exports().int8_dir, output_dir)
    assert run(*common(output_dir)) == 0
    assert load_artifact(output_dir).manifest.precision == "float32"
    assert [path.name for path in tmp_path.iterdir()] == ["art"]


def changed_config(path: Path, **values: object) -> Path:
    """Copy the checkpoint, with another config.json."""
    shutil.copytree(tiny.exports().checkpoint, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | values))
    return path


def pretrained(path: Path) -> Path:
    files = {"vocab.txt": (tiny.exports().checkpoint / "vocab.txt").read_bytes()}
    model = build_model("pretraining", tiny.CONFIG)
    save_checkpoint(path, model, tiny.CONFIG, tokenizer_files=files)
    return path


def a_file(path: Path) -> Path:
    path.write_text("no directory")
    return path


def an_empty_directory(path: Path) -> Path:
    path.mkdir()
    return path


def without_tokenizer(path: Path) -> Path:
    shutil.copytree(tiny.exports().checkpoint, path)
    (path / "vocab.txt").unlink()
    return path


def without_a_weight(path: Path) -> Path:
    config = dataclasses.replace(tiny.CONFIG, num_hidden_layers=3)
    shutil.copytree(tiny.exports().checkpoint, path)
    values = json.loads((path / "config.json").read_text())
    values["num_hidden_layers"] = config.num_hidden_layers
    (path / "config.json").write_text(json.dumps(values))
    return path


def diverged(path: Path) -> Path:
    model = tiny.make_model()
    # One token's row, in which no batch of random ids has to look.
    with torch.no_grad():
        model.get_parameter("bert.embeddings.word_embeddings.weight")[77, 3] = torch.nan
    return tiny.write_checkpoint(path, model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "no such directory"),
        (a_file, "not a directory"),
        (an_empty_directory, "no config.json in it"),
        (lambda path: tiny.exports().float_dir, "no config.json in it"),
        (lambda path: changed_config(path, model_type="gpt2"), "model_type: got 'gpt2'"),
        (
            lambda path: changed_config(path, architectures=["BertForNextSentencePrediction"]),
            "architectures: got ['BertForNextSentencePrediction']",
        ),
        (lambda path: changed_config(path, hidden_act="gelu_new"), "hidden_act: got 'gelu_new'"),
        (pretrained, "task: got 'pretraining', want one that compiles"),
        (without_tokenizer, "tokenizer"),
        (without_a_weight, "missing"),
        (diverged, "bert.embeddings.word_embeddings.weight: got NaN or infinite values"),
    ],
    ids=lambda value: None if callable(value) else value[:24],
)
def test_a_checkpoint_that_cannot_be_compiled(
    make: Callable[[Path], Path],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = make(tmp_path / "checkpoint")
    before = set(tmp_path.iterdir())
    flags = ["--model_name_or_path", checkpoint, "--output_dir", tmp_path / "art"]
    assert run(*flags, *tiny.LIMIT_FLAGS) == 2
    assert message in last_line(capsys)
    assert set(tmp_path.iterdir()) == before


def bad_json(path: Path) -> Path:
    path.write_text('{"data": [')
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (lambda path: ["--int8"], "calibration_file: got none, want "),
        (lambda path: ["--int8", "--calibration_file", path], "data.json: cannot be read: No such"),
        (lambda path: ["--eval_file", path], "data.json: cannot be read: No such"),
        (lambda path: ["--eval_file", bad_json(path)], "data.json: not JSON at line 1"),
        (
            lambda path: [
                *("--int8", "--calibration_file", tiny.exports().eval_file),
                *("--eval_file", tiny.exports().eval_file),
            ],
            "calibration_file: shares 100 passages with eval_file, want none",
        ),
        (lambda path: ["--max_seq_length", 65], "max_seq_length: got 65, want at most the model's"),
        (lambda path: ["--doc_stride", 40], "doc_stride: got 40, want less than"),
        (lambda path: ["--min_f1_ratio", 1.5], "min_f1_ratio: got 1.5, want a number from 0 to 1"),
        (lambda path: ["--min_f1_ratio", "nan"], "min_f1_ratio: got nan, want"),
        (lambda path: ["--max_f1_loss", 0], "max_f1_loss: got 0.0, want a number above 0"),
        (lambda path: ["--seed", 2**63], "seed: got 9223372036854775808, want"),
    ],
    ids=lambda value: None if callable(value) else value[:24],
)
def test_flags_that_cannot_be_followed(
    flags: Callable[[Path], list[object]],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = flags(tmp_path / "data.json")
    before = set(tmp_path.iterdir())
    assert run(*common(tmp_path / "art"), *given) == 2
    assert message in last_line(capsys)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--calibration_samples", "0"],
        ["--calibration_samples", "many"],
        ["--seed", "-1"],
        ["--min_f1_ratio", "high"],
        ["--int9"],
        ["--output_dir"],
    ],
)
def test_flags_that_are_none(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model_name_or_path", "a", "--output_dir", "b", *flags]
    with pytest.raises(SystemExit) as caught:
        export.main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m compile.export: error: ")


@pytest.mark.usefixtures("quick_trace")
def test_an_eval_file_of_nothing_is_reported_before_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "compile.tasks.base.trace", lambda loaded: pytest.fail("worked before looking")
    )
    empty = tiny.write_squad(tmp_path / "empty.json", [])
    assert run(*common(tmp_path / "art"), "--eval_file", empty) == 2
    assert "got 0 questions, want at least 1" in last_line(capsys)
