"""Tests of compile.verify."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bert_rt.artifact.artifact import MODEL_NAME, load_artifact, write_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.support.cli import run_command
from compile import verify
from tests.unit.compile import tiny


def changed_copy(directory: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the INT8 artifact again with another receipt, hashes and all."""
    artifact = load_artifact(tiny.exports().int8_dir)
    manifest = artifact.manifest
    assert manifest.receipt is not None
    receipt = json.loads(json.dumps(manifest.receipt))
    change(receipt)
    fields = ManifestFields(
        task=manifest.task,
        architecture=manifest.architecture,
        precision=manifest.precision,
        limits=manifest.limits,
        receipt=receipt,
    )
    write_artifact(
        directory, files={name: artifact.read(name) for name in manifest.files}, **fields
    )
    return directory


def run(*arguments: object) -> int:
    return run_command(verify.main, [str(argument) for argument in arguments])


def test_confirms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny.exports()
    capsys.readouterr()  # what the exports said, where this test is the first to need them
    output_json = tmp_path / "output.json"
    assert (
        run("--artifact", made.int8_dir, "--eval_file", made.eval_file, "--json", output_json) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "hashes: 3 files are as the manifest says"
    result = json.loads(output_json.read_text())
    receipt = load_artifact(made.int8_dir).manifest.receipt
    assert receipt is not None
    for engine, claimed in receipt["int8"].items():
        assert any(line.startswith(f"{engine}: self-test passed") for line in lines)
        want = f"{engine}: F1 {claimed['f1']:.2f}, exact match {claimed['exact_match']:.2f}"
        error = claimed["score_calibration"]["after"]["expected_calibration_error"]
        assert f"{want}, expected calibration error {error:.4f}: confirmed" in lines
        assert result["engines"][engine] == "passed"
        scores = {
            "f1": claimed["f1"],
            "exact_match": claimed["exact_match"],
            "expected_calibration_error": error,
        }
        assert result["scores"][engine] == pytest.approx(scores)
    assert {"onnxruntime", "openvino"} <= receipt["int8"].keys()


def claiming_pair_safe(directory: Path, source: Path) -> Path:
    """Write an INT8 artifact again with the claim that its pairs keep the bound."""
    artifact = load_artifact(source)
    manifest = artifact.manifest
    fields = ManifestFields(
        task=manifest.task,
        architecture=manifest.architecture,
        precision=manifest.precision,
        limits=manifest.limits,
        quantization={"pair_safe": True},
    )
    write_artifact(
        directory, files={name: artifact.read(name) for name in manifest.files}, **fields
    )
    return directory


def test_pair_safe_is_refused_where_it_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = claiming_pair_safe(tmp_path / "art", tiny.exports().int8_dir)
    line = fails(capsys, "--artifact", path)
    assert line.startswith("error: quantization.pair_safe: got true, but in encoder.layer.0.")
    assert line.endswith("pairs of weights have a sum beyond 128; want none")


def test_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--artifact", tiny.exports().float_dir) == 0
    out = capsys.readouterr().out
    assert "onnxruntime: self-test passed" in out
    assert "confirmed" not in out


def test_says_which_engine_was_not_checked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.exports()

    def missing(engine: str, artifact: Any = None) -> str | None:
        return None if engine == "onnxruntime" else "is out to lunch"

    monkeypatch.setattr(verify, "missing", missing)
    assert run("--artifact", made.int8_dir) == 0
    assert "openvino: not checked: is out to lunch" in capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run verify, which must end with one line on stderr, and return that line."""
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert err.endswith(line + "\n")
    return line


def test_contradicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def flatter(receipt: dict[str, Any]) -> None:
        receipt["int8"]["onnxruntime"]["f1"] += 0.2

    path = changed_copy(tmp_path / "art", flatter)
    line = fails(capsys, "--artifact", path, "--eval_file", tiny.exports().eval_file)
    assert line.startswith("error: receipt: onnxruntime has F1 ")
    assert "want a difference of at most 0.1" in line


def test_a_difference_within_the_tolerance(tmp_path: Path) -> None:
    def round_up(receipt: dict[str, Any]) -> None:
        receipt["int8"]["onnxruntime"]["f1"] += 0.05

    path = changed_copy(tmp_path / "art", round_up)
    assert run("--artifact", path, "--eval_file", tiny.exports().eval_file) == 0


def test_scores_that_are_not_as_true_as_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def flatter(receipt: dict[str, Any]) -> None:
        scores = receipt["int8"]["onnxruntime"]["score_calibration"]
        scores["after"]["expected_calibration_error"] -= 0.011

    path = changed_copy(tmp_path / "art", flatter)
    line = fails(capsys, "--artifact", path, "--eval_file", tiny.exports().eval_file)
    assert line.startswith("error: receipt: onnxruntime has an expected calibration error of ")
    assert "want a difference of at most 0.01" in line


def test_an_older_receipt_tells_nothing_of_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forget(receipt: dict[str, Any]) -> None:
        for scores in receipt["int8"].values():
            del scores["score_calibration"]

    path = changed_copy(tmp_path / "art", forget)
    output_json = tmp_path / "output.json"
    flags = ["--artifact", path, "--eval_file", tiny.exports().eval_file, "--json", output_json]
    assert run(*flags) == 0
    assert "calibration error" not in capsys.readouterr().out
    scores = json.loads(output_json.read_text())["scores"]["onnxruntime"]
    assert 0 <= scores["expected_calibration_error"] <= 1


@pytest.mark.parametrize("calibration", [None, [], {"after": 1}, {"after": {}}, {"after": "x"}])
def test_scores_of_a_receipt_that_are_none(
    calibration: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(receipt: dict[str, Any]) -> None:
        receipt["int8"]["onnxruntime"]["score_calibration"] = calibration

    path = changed_copy(tmp_path / "art", spoil)
    line = fails(capsys, "--artifact", path, "--eval_file", tiny.exports().eval_file)
    assert line.startswith("error: manifest.receipt: got ")
    assert "score_calibration.after.expected_calibration_error" in line


def test_another_eval_file(capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny.exports()
    line = fails(capsys, "--artifact", made.int8_dir, "--eval_file", made.calibration_file)
    assert "is not the receipt's evaluation.json: got SHA-256" in line


def test_no_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny.exports()
    line = fails(capsys, "--artifact", made.float_dir, "--eval_file", made.eval_file)
    assert "carries no receipt" in line


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt.clear(),
        lambda receipt: receipt.pop("dataset"),
        lambda receipt: receipt.update(dataset="squad"),
        lambda receipt: receipt.update(int8=["onnxruntime"]),
        lambda receipt: receipt["int8"].update(onnxruntime=99.0),
        lambda receipt: receipt["int8"]["onnxruntime"].update(f1="high"),
        lambda receipt: receipt["int8"]["onnxruntime"].update(f1=None),
    ],
)
def test_a_receipt_that_is_none(
    change: Callable[[dict[str, Any]], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A manifest's receipt may hold any JSON.
    path = changed_copy(tmp_path / "art", change)
    line = fails(capsys, "--artifact", path, "--eval_file", tiny.exports().eval_file)
    assert line.startswith("error: manifest.receipt: got ")


def test_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = changed_copy(tmp_path / "art", lambda receipt: None)
    data = bytearray((path / MODEL_NAME).read_bytes())
    data[len(data) // 2] ^= 1
    (path / MODEL_NAME).write_bytes(data)
    assert "is damaged or was changed" in fails(capsys, "--artifact", path)


def test_no_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such directory" in fails(capsys, "--artifact", tmp_path / "absent")
