"""Scores that are probabilities, from the command's flag to the answer and back to verify."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.question_answering.squad import SquadExample
from compile import export, verify
from compile.graph.trace import trace
from runtime import evaluate
from tests.unit.compile import tiny, tiny_classifier

# What the gold answers are drawn by: this is how sure the tiny model may be.
_SURE = 0.07
# Few spans a passage, so that the model is right now and then.
_LIMITS = dataclasses.replace(tiny.LIMITS, max_answer_length=1)
_LIMIT_FLAGS = (*tiny.LIMIT_FLAGS, "--max_answer_length", "1")
_BARS = ("--max_f1_loss", 90, "--min_f1_ratio", 0.1)


def run(command: object, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])  # type: ignore[attr-defined]


def write_asked(path: Path, count: int, seed: int) -> Path:
    """Write questions whose gold answer is the float model's as often as it may be sure of it."""
    asked = [
        dataclasses.replace(e, context=" ".join(e.context.split()[:6]))
        for e in tiny.examples(count, seed=seed, prefix=f"{seed} ")
    ]
    random = np.random.default_rng(seed)
    float_dir = tiny.exports().float_dir
    with Runtime.load(float_dir, engine="onnxruntime", config=_LIMITS) as runtime:
        options = dataclasses.replace(runtime.options(), score_temperature=_SURE)
        answers = runtime.ask_stream([(e.question, e.context) for e in asked], options)
        gold = [
            dataclasses.replace(e, **_gold(e, a.text, random.random() < a.score))
            for e, a in zip(asked, answers, strict=True)
        ]
    return tiny.write_squad(path, gold)


def _gold(example: SquadExample, text: str, is_right: bool) -> dict[str, object]:
    # Where the model must be wrong, all of the passage is right, which is too long an answer.
    text = text if is_right else example.context
    start = example.context.index(text)
    return {"answers": (text,), "answer_starts": (start,), "is_impossible": False}


@functools.cache
def files() -> dict[str, Path]:
    directory = tiny.exports().eval_file.parent
    return {
        "calibration_file": write_asked(directory / "asked-train.json", 400, 21),
        "score_calibration_file": write_asked(directory / "asked-scores.json", 400, 22),
        "eval_file": write_asked(directory / "asked-dev.json", 1200, 23),
    }


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds of tracing, where what comes after it is tested."""
    files()
    monkeypatch.setattr("compile.tasks.base.trace", lambda loaded: tiny.traced())


def common(output_dir: Path, names: Sequence[str]) -> list[object]:
    flags: list[object] = ["--model_name_or_path", tiny.exports().checkpoint]
    flags += ["--output_dir", output_dir, *_LIMIT_FLAGS]
    for name in names:
        flags += [f"--{name}", files()[name]]
    return flags


@pytest.mark.usefixtures("quick")
def test_from_the_flag_to_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "art"
    assert run(export, *common(path, list(files())), "--int8", *_BARS) == 0
    artifact = load_artifact(path)
    manifest = artifact.manifest
    calibration = manifest.provenance["score_calibration"]
    temperature = manifest.score_temperature
    assert (calibration["verdict"], calibration["total"]) == ("fitted", 400)
    assert (calibration["data"], calibration["score_temperature"]) == (
        "score_calibration_file",
        temperature,
    )
    line = f"scores: temperature {temperature:.3f}, for 400 examples of score_calibration_file"
    assert line in capsys.readouterr().out
    assert manifest.provenance["data"]["score_calibration_file"]["name"] == "asked-scores.json"
    # Float was drawn by it, and has a temperature of its own.
    float_scores = manifest.receipt["float"]["score_calibration"]
    assert float_scores["score_temperature"] == pytest.approx(_SURE, rel=0.25)
    assert float_scores["score_temperature"] != temperature
    for scores in manifest.receipt["int8"].values():
        assert scores["score_calibration"]["score_temperature"] == temperature
    for scores in (manifest.receipt["float"], *manifest.receipt["int8"].values()):
        one = scores["score_calibration"]
        before, after = (one[name]["expected_calibration_error"] for name in ("before", "after"))
        assert after < before / 2
    report = (path / "report.html").read_text()
    assert "<h2>Confidence</h2>" in report and "may have been trained" not in report

    # What is answered, what is measured and what is verified are one.
    pair = ("who sat on the mat?", "the cat sat on the mat in paris")
    with Runtime.load(path, engine="onnxruntime") as runtime:
        answer = runtime.answer(question=pair[0], context=pair[1], top_k=2)
    ratio = np.log(answer.score / answer.alternatives[0].score)
    margin = answer.logit - answer.alternatives[0].logit
    assert ratio == pytest.approx(margin / temperature, rel=1e-6)
    measured = tmp_path / "measured.json"
    flags = ["--artifact", path, "--engine", "onnxruntime", "--data", files()["eval_file"]]
    assert run(evaluate, *flags, "--json", measured) == 0
    claimed = manifest.receipt["int8"]["onnxruntime"]["score_calibration"]["after"]
    got = json.loads(measured.read_text())["expected_calibration_error"]
    assert got == pytest.approx(claimed["expected_calibration_error"], abs=1e-3)
    capsys.readouterr()
    assert run(verify, "--artifact", path, "--eval_file", files()["eval_file"]) == 0
    assert f"expected calibration error {got:.4f}: confirmed" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_questions_of_the_calibration_file_stand_in(tmp_path: Path) -> None:
    path = tmp_path / "art"
    assert run(export, *common(path, ("calibration_file", "eval_file"))) == 0
    manifest = load_artifact(path).manifest
    calibration = manifest.provenance["score_calibration"]
    assert (calibration["data"], calibration["total"], calibration["verdict"]) == (
        "calibration_file",
        80,
        "fitted",
    )
    assert manifest.score_temperature == pytest.approx(_SURE, rel=0.5)
    assert set(manifest.provenance["data"]) == {"calibration_file", "eval_file"}
    assert "may have been trained on these examples" in (path / "report.html").read_text()


@pytest.mark.usefixtures("quick")
def test_without_examples_scores_are_as_they_were(tmp_path: Path) -> None:
    flags = ["--held_out_samples", 0]
    assert run(export, *common(tmp_path / "art", ("calibration_file",)), *flags) == 0
    manifest = load_artifact(tmp_path / "art").manifest
    assert manifest.score_temperature == 1.0
    assert "score_calibration" not in manifest.provenance
    assert manifest.provenance["data"] == {}
    assert b"score_temperature" not in (tmp_path / "art" / "manifest.json").read_bytes()


def test_files_that_cannot_be_fitted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tiny.write_squad(tmp_path / "few.json", tiny.examples(49, seed=1))
    base = common(tmp_path / "art", ("eval_file",))
    for path, message in (
        (few, "score_calibration_file: got 49 examples, want at least 50"),
        (files()["eval_file"], "score_calibration_file: shares 600 passages with eval_file"),
        (tmp_path / "absent.json", "absent.json"),
    ):
        capsys.readouterr()
        assert run(export, *base, "--score-calibration-file", path) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not (tmp_path / "art").exists()


def test_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny_classifier.exports()
    graph = tiny.to_bytes(trace(load_model(made.checkpoint)))
    monkeypatch.setattr(
        "compile.tasks.base.trace", lambda _: ir.from_proto(onnx.load_from_string(graph))
    )
    random = np.random.default_rng(0)
    paths = []
    for seed, name in ((31, "scores.tsv"), (32, "dev.tsv")):
        texts = tiny_classifier.texts(500, seed=seed)
        with Runtime.load(made.float_dir, engine="onnxruntime") as runtime:
            logits = np.array([result.logits for result in runtime.classify_batch(texts)])
        second = 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]) / 3.0))
        rows = [
            (text, tiny_classifier.LABELS[int(random.random() < p)])
            for text, p in zip(texts, second, strict=True)
        ]
        paths.append(tiny_classifier.write_tsv(tmp_path / name, rows))
    flags = ["--model_name_or_path", made.checkpoint, *tiny_classifier.LIMIT_FLAGS]
    flags += ["--score_calibration_file", paths[0], "--eval_file", paths[1]]
    assert run(export, *flags, "--output_dir", tmp_path / "art") == 0
    manifest = load_artifact(tmp_path / "art").manifest
    assert manifest.score_temperature == pytest.approx(3.0, rel=0.25)
    calibration = manifest.receipt["float"]["score_calibration"]
    before, after = (
        calibration[name]["expected_calibration_error"] for name in ("before", "after")
    )
    assert after < before / 2
    assert run(verify, "--artifact", tmp_path / "art", "--eval_file", paths[1]) == 0
