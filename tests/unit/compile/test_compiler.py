"""Tests of compile.compiler that need no whole compile; tests/e2e/test_export.py has the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bert_rt.artifact.artifact import load_artifact
from bert_rt.errors import ConfigError
from bert_rt.model.checkpoint import checkpoint_hash
from bert_rt.model.config import to_dict
from compile import compiler
from compile.compiler import CompileOptions
from compile.graph.fuse import expected_counts
from compile.judge.gate import Verdict
from compile.judge.receipt import data_hash
from tests.unit.compile import tiny


def test_int8_needs_text_to_calibrate_on() -> None:
    with pytest.raises(ConfigError, match=r"^calibration_file: got none, want "):
        CompileOptions(model_name_or_path=Path("a"), output_dir=Path("b"), int8=True)


def test_the_manifest_says_where_everything_came_from() -> None:
    made = tiny.exports()
    manifest = load_artifact(made.int8_dir).manifest
    provenance: dict[str, Any] = dict(manifest.provenance)
    assert provenance["checkpoint"] == "checkpoint"
    assert provenance["checkpoint_sha256"] == checkpoint_hash(made.checkpoint)
    assert provenance["data"] == {
        "calibration_file": {
            "name": "calibration.json",
            "sha256": data_hash(made.calibration_file),
        },
        "eval_file": {"name": "evaluation.json", "sha256": data_hash(made.eval_file)},
    }
    assert provenance["float_parity"]["max_abs_error"] <= provenance["float_parity"]["limit"]
    assert {"bert-rt", "python", "torch", "onnxscript", "onnxruntime"} <= set(provenance["tools"])
    assert manifest.fusions == expected_counts(tiny.CONFIG)
    assert manifest.limits == to_dict(tiny.LIMITS)


def test_the_manifest_says_how_every_layer_was_quantized() -> None:
    quantization: dict[str, Any] = dict(
        load_artifact(tiny.exports().int8_dir).manifest.quantization
    )
    assert set(quantization["layers"]) == set(tiny.ENCODER_LINEARS)
    for layer in quantization["layers"].values():
        assert 0 < layer["error"] <= layer["naive_error"]
        assert layer["sensitivity"] > 0
    # As many as there are passages, though 256 were asked for; a fifth of them was set aside.
    assert (quantization["calibration_samples"], quantization["seed"]) == (16, 0)
    assert quantization["held_out"]["total"] == 8
    assert quantization["held_out"]["verdict"].startswith("onnxruntime: got F1 ")
    assert quantization["float_layers"] == {}
    assert load_artifact(tiny.exports().float_dir).manifest.quantization == {}


def test_no_path_of_this_machine_is_written() -> None:
    made = tiny.exports()
    for directory in (made.int8_dir, made.float_dir):
        for name in ("manifest.json", "model.onnx", "report.html"):
            data = (directory / name).read_bytes()
            assert str(directory.parent).encode() not in data
            assert str(Path(__file__).parents[3]).encode() not in data


@pytest.mark.parametrize("evaluation", [[], ["another text"]])
@pytest.mark.parametrize("failing", [None, "native"])
def test_layers_are_chosen_on_all_engines_that_can_run(
    failing: str | None, evaluation: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    engines = ("onnxruntime", "openvino", "native")
    model: Any = SimpleNamespace(artifact=None)
    task: Any = SimpleNamespace(evaluate=None)

    def measure(artifact: Any, examples: Any, *, engines: Any, score: Any) -> dict[str, str]:
        asked.extend(engines)
        return {name: name for name in engines if name != "openvino"}  # which cannot run here

    def judge_one(reference: str, int8: str, examples: Any) -> Verdict:
        assert reference == "onnxruntime"
        return Verdict(int8 != failing, f"got {int8}", int8 == "native", may_pass=True)

    task.judge = judge_one
    monkeypatch.setattr("compile.compiler.judged_engines", lambda: engines)
    monkeypatch.setattr("compile.compiler.measure", measure)
    judge = compiler._judge(model, task, compiler._Data([], ["text"], [], evaluation))
    assert judge is not None
    verdict = judge(model)
    assert asked == ["onnxruntime", *engines]
    if failing:
        # Without an evaluation file nothing else would decide.
        assert verdict == Verdict(False, "native: got native", True, may_pass=bool(evaluation))
    else:
        want = "onnxruntime: got onnxruntime; native: got native"
        assert verdict == Verdict(True, want, is_near=True, may_pass=True)


def test_an_engine_that_does_not_judge_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = {
        "onnxruntime": None,
        "openvino": "LD_PRELOAD: got 'libjemalloc.so.2'",
        "native": None,
    }
    monkeypatch.setattr(compiler, "judged_engines", lambda: tuple(reasons))
    monkeypatch.setattr(compiler, "missing", reasons.__getitem__)
    compiler._name_absent_engines()
    (message,) = caplog.messages
    assert message == "openvino: INT8 is not measured on it: LD_PRELOAD: got 'libjemalloc.so.2'"
