"""Models that INT8 finds hard: compiled within the bar, partly in float, or refused by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.engines.registry import missing
from bert_rt.support.cli import run_command
from bert_rt.tasks.question_answering.evaluation import evaluate
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from compile import export
from compile.int8 import recipe
from tests.support.outliers import scale_channels
from tests.unit.compile import tiny

_ENGINES = ("onnxruntime", "openvino", "native")


def run(*arguments: object) -> int:
    return run_command(export.main, [str(argument) for argument in arguments])


def answered(float_dir: Path, asked: Sequence[SquadExample]) -> list[SquadExample]:
    """Return the questions with what a model answers for gold: its own F1 is 100."""
    with Runtime.load(float_dir, engine="onnxruntime") as runtime:
        answers = runtime.answer_batch([(e.question, e.context) for e in asked])
    return [
        dataclasses.replace(e, answers=(a.text,), answer_starts=(a.start,), is_impossible=False)
        for e, a in zip(asked, answers, strict=True)
    ]


@functools.cache
def files() -> list[str]:
    """Return the flags of INT8 with gold answers for calibration, too: INT8 is judged on them."""
    made = tiny.exports()
    calibration_file = made.eval_file.with_name("answered.json")
    gold = answered(made.float_dir, tiny.examples(400, seed=3, prefix="train "))
    tiny.write_squad(calibration_file, gold)
    return ["--calibration_file", str(calibration_file), "--eval_file", str(made.eval_file)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds of tracing, where what comes after it is tested."""
    files()
    monkeypatch.setattr("compile.tasks.base.trace", lambda loaded: tiny.traced())


def damage(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """Spoil the quantization of some layers: of their inputs nothing is left."""
    search = recipe.plan_layers

    def plan_badly(*arguments: object) -> dict[str, object]:
        plans = search(*arguments)
        for name in names:
            plans[name] = dataclasses.replace(plans[name], scale=plans[name].scale * 1000)
        return plans

    monkeypatch.setattr(recipe, "plan_layers", plan_badly)


def common(output_dir: Path, checkpoint: Path | None = None) -> list[object]:
    checkpoint = checkpoint or tiny.exports().checkpoint
    flags = ["--model_name_or_path", checkpoint, "--output_dir", output_dir, "--int8"]
    return [*flags, *tiny.LIMIT_FLAGS]


_BAD = ("encoder.layer.0.intermediate.dense", "encoder.layer.1.attention.self.qkv")


@pytest.mark.usefixtures("quick")
def test_only_the_layers_that_cost_too_much_stay_in_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch, _BAD)
    bars = ["--max_f1_loss", 15, "--min_f1_ratio", 0.85]
    assert run(*common(tmp_path / "art"), *files(), *bars) == 0
    artifact = load_artifact(tmp_path / "art")
    quantization = artifact.manifest.quantization
    assert set(quantization["float_layers"]) == set(_BAD)
    assert set(quantization["layers"]) == set(tiny.ENCODER_LINEARS) - set(_BAD)
    worst = min(quantization["float_layers"].values())
    assert worst > max(layer["sensitivity"] for layer in quantization["layers"].values())
    assert quantization["held_out"]["total"] == 80
    report = (tmp_path / "art" / "report.html").read_text()
    assert "These layers stay in float" in report
    # Every engine runs the mixture, the native one with its float product.
    examples = read_squad(tiny.exports().eval_file)
    able = [engine for engine in _ENGINES if missing(engine, artifact) is None]
    assert set(artifact.manifest.receipt["int8"]) == set(able)
    for engine in able:
        with Runtime.load(artifact.path, engine=engine) as runtime:
            assert evaluate(runtime, examples).f1 > 85


@pytest.mark.usefixtures("quick")
def test_a_refusal_names_the_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(monkeypatch, _BAD)
    bars = ["--max_f1_loss", 15, "--min_f1_ratio", 0.85, "--max_float_share", 0.125]
    assert run(*common(tmp_path / "art"), *files(), *bars) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: int8: loses too much on examples of the calibration file")
    assert "even with the 1 most sensitive layers in float" in line
    assert line.rpartition(": ")[2] in _BAD
    assert not list(tmp_path.iterdir())


def test_channels_fifty_times_wider(tmp_path: Path) -> None:
    """Nothing is kept in float, and INT8 is as good as on the model as it was."""
    model = tiny.make_model()
    scale_channels(
        model,
        50.0,
        num_layers=tiny.NUM_LAYERS,
        head_channels=(1, 11, 18, 30),
        ffn_channels=(3, 9, 20, 21, 33, 60),
    )
    checkpoint = tiny.write_checkpoint(tmp_path / "checkpoint", model)
    flags = ["--model_name_or_path", checkpoint, "--output_dir", tmp_path / "float"]
    assert run(*flags, *tiny.LIMIT_FLAGS) == 0
    data = (
        tiny.write_squad(
            tmp_path / f"{name}.json",
            answered(tmp_path / "float", tiny.examples(count, seed=seed, prefix=name)),
        )
        for name, count, seed in (("train", 400, 3), ("dev", 200, 9))
    )
    names = ("--calibration_file", "--eval_file")
    paths = [part for pair in zip(names, data, strict=True) for part in pair]
    bars = ["--max_f1_loss", 15, "--min_f1_ratio", 0.85]
    assert run(*common(tmp_path / "art", checkpoint), *paths, *bars) == 0
    manifest = load_artifact(tmp_path / "art").manifest
    assert manifest.quantization["float_layers"] == {}
    naive = np.mean([layer["naive_error"] for layer in manifest.quantization["layers"].values()])
    error = np.mean([layer["error"] for layer in manifest.quantization["layers"].values()])
    assert error < naive / 20
    for scores in manifest.receipt["int8"].values():
        assert scores["f1_ratio"] > 0.9


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("given", [False, True])
def test_the_threshold_of_no_answer(given: bool, tmp_path: Path) -> None:
    """Questions that the model is less sure of than of most have no answer: that can be found."""
    paths = []
    for name, flag in (("answered.json", "--calibration_file"), ("evaluation.json", "--eval_file")):
        asked = read_squad(tiny.exports().eval_file.with_name(name))
        with Runtime.load(tiny.exports().float_dir, engine="onnxruntime") as runtime:
            answers = runtime.answer_batch([(e.question, e.context) for e in asked])
        margins = np.array([answer.null_score - answer.logit for answer in answers])
        asked = [
            dataclasses.replace(e, answers=(), answer_starts=(), is_impossible=True) if no else e
            for e, no in zip(asked, margins > np.median(margins), strict=True)
        ]
        paths += [flag, tiny.write_squad(tmp_path / name, asked)]
    flags = [*common(tmp_path / "art"), *paths, "--version_2_with_negative"]
    bars = ["--max_f1_loss", 25, "--min_f1_ratio", 0.7]
    threshold = ["--null_score_diff_threshold", 0.125] if given else []
    assert run(*flags, *bars, *threshold) == 0
    manifest = load_artifact(tmp_path / "art").manifest
    assert manifest.limits["version_2_with_negative"]
    found = manifest.limits["null_score_diff_threshold"]
    if given:
        assert found == 0.125 and "threshold" not in manifest.provenance
        return
    provenance = manifest.provenance["threshold"]
    assert provenance["value"] == found != 0.0
    assert provenance["f1"] > provenance["f1_at_zero"] + 20
    assert provenance["held_out"] == 80
    # It holds for questions that it was not found on, too, on every engine.
    for scores in (manifest.receipt["float"], *manifest.receipt["int8"].values()):
        assert scores["f1"] > provenance["f1_at_zero"] + 20
