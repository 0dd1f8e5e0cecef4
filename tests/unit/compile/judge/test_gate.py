"""Tests of compile.judge.gate."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt.artifact.artifact import load_artifact
from bert_rt.errors import CalibrationError, ConfigError, ParityError
from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation, evaluate
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from compile.judge import gate as gate_module
from compile.judge.gate import Gate, check_disjoint, data_hash, make_receipt, measure
from tests.unit.compile import tiny


def receipt(float_f1: float, low: float = 0.0, **int8: float) -> dict[str, Any]:
    return {
        "intervals": {"num_clusters": 17},
        "float": {"f1": float_f1, "exact_match": 0.0},
        "int8": {
            engine: {"f1": f1, "exact_match": 0.0, "f1_difference_interval": [low, 0.25]}
            for engine, f1 in int8.items()
        },
    }


@pytest.mark.parametrize(
    ("float_f1", "f1", "ratio"),
    [(80.0, 79.2, 0.99), (80.0, 79.21, 0.99), (80.0, 81.0, 1.0), (0.0, 0.0, 0.99), (50, 0, 0)],
)
def test_passes(float_f1: float, f1: float, ratio: float) -> None:
    Gate(min_f1_ratio=ratio).check(receipt(float_f1, onnxruntime=f1), tiny.plans())


@pytest.mark.parametrize(
    ("float_f1", "f1", "ratio"), [(80.0, 79.19, 0.99), (80.0, 79.9999, 1.0), (80.0, math.nan, 0.0)]
)
def test_fails(float_f1: float, f1: float, ratio: float) -> None:
    with pytest.raises(ParityError, match="min_f1_ratio"):
        Gate(min_f1_ratio=ratio).check(receipt(float_f1, onnxruntime=f1), tiny.plans())


def test_every_engine_must_pass() -> None:
    with pytest.raises(ParityError, match="INT8 on openvino"):
        Gate().check(receipt(80.0, onnxruntime=80.0, openvino=70.0), tiny.plans())


def test_the_message_names_engine_figures_and_layers() -> None:
    with pytest.raises(ParityError) as caught:
        Gate(min_f1_ratio=0.995).check(receipt(81.28, native=79.5), tiny.plans())
    message = str(caught.value)
    for part in ("native", "F1 79.50", "float 81.28", "0.9781", "0.995", "Nothing was written"):
        assert part in message
    worst = sorted(tiny.plans().values(), key=lambda plan: plan.error, reverse=True)
    places = [message.index(f"{plan.name} ({plan.error:.2%})") for plan in worst[:5]]
    assert places == sorted(places)
    assert worst[5].name not in message
    assert "\n" not in message


@pytest.mark.parametrize(("low", "loss"), [(-0.49, 0.5), (0.0, 1e-9), (-99.9, 100)])
def test_a_loss_that_is_small_for_sure_passes(low: float, loss: float) -> None:
    Gate(max_f1_loss=loss).check(receipt(80.0, low, native=80.0), tiny.plans())


@pytest.mark.parametrize(("low", "loss"), [(-0.5, 0.5), (-3.0, 0.5), (-0.1, 0.05), (math.nan, 99)])
def test_a_loss_that_may_be_large_fails(low: float, loss: float) -> None:
    # Though the figure itself shows no loss at all.
    with pytest.raises(ParityError, match="max_f1_loss: INT8 on native") as caught:
        Gate(max_f1_loss=loss).check(receipt(80.0, low, native=80.0), tiny.plans())
    message = str(caught.value)
    assert f"between {low:.2f} and 0.25 with 95 % confidence, want more than -{loss}" in message
    assert "more than the 17 passages" in message and "Nothing was written" in message


@pytest.mark.parametrize("loss", [-0.5, 0.0, 100.1, math.nan])
def test_a_bar_that_is_no_loss(loss: float) -> None:
    with pytest.raises(ConfigError, match=r"^max_f1_loss: got .*, want a number above 0"):
        Gate(max_f1_loss=loss)


@pytest.mark.parametrize("ratio", [-0.01, 1.01, math.nan, math.inf])
def test_a_bar_that_is_no_ratio(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"^min_f1_ratio: got .*, want a number from 0 to 1$"):
        Gate(min_f1_ratio=ratio)


def example(name: str, context: str) -> SquadExample:
    return SquadExample(name, "", "Who?", context, (), (), True)


def test_disjoint_passages() -> None:
    check_disjoint([example("1", "one")], [example("1", "two")])
    check_disjoint([], [example("1", "two")])
    check_disjoint([example("1", "one")], [])


def test_shared_passages() -> None:
    calibration = [example("1", "one"), example("2", "two " * 50), example("3", "three")]
    evaluation = [example("a", "zero"), example("b", "two " * 50), example("c", "three")]
    with pytest.raises(CalibrationError) as caught:
        check_disjoint(calibration, evaluation)
    message = str(caught.value)
    assert message.startswith("calibration_file: shares 2 passages with eval_file")
    assert "'three'" in message
    with pytest.raises(CalibrationError, match=r"^score_calibration_file: shares 2 passages"):
        check_disjoint(calibration, evaluation, field="score_calibration_file")


def test_data_hash(tmp_path: Path) -> None:
    file = tmp_path / "data.json.gz"
    file.write_bytes(b"as it stands on the disk")
    assert data_hash(file) == hashlib.sha256(b"as it stands on the disk").hexdigest()


def evaluation(f1_N: list[float], texts: str) -> AnswerEvaluation:
    predictions = dict(zip("abcd", texts, strict=True))
    return AnswerEvaluation(
        exact_match=50.0,
        f1=100 * float(np.mean(f1_N)),
        total=4,
        questions_per_second=1.0,
        predictions=predictions,
        exact_N=np.zeros(4),
        f1_N=np.array(f1_N),
        score_N=np.full(4, 0.25),
        raw_score_N=np.full(4, 0.5),
        score_temperature=2.0,
    )


def test_receipt(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(b"{}")
    # Two passages of two questions each: a draw has one, the other, or both (half of the draws).
    examples = [example("a", "1"), example("b", "1"), example("c", "2"), example("d", "2")]
    reference = evaluation([1.0, 1.0, 0.5, 0.5], "wxyz")
    int8 = evaluation([0.5, 0.5, 0.5, 1.0], "wXyZ")
    got = make_receipt(file, examples, reference, {"openvino": int8})
    assert got["dataset"] == {"name": "dev.json", "sha256": data_hash(file), "total": 4}
    assert got["intervals"] == {
        "method": "paired bootstrap over passages, percentiles",
        "confidence": 0.95,
        "num_resamples": 10_000,
        "seed": 0,
        "num_clusters": 2,
    }
    scores = got["float"].pop("score_calibration")
    assert got["int8"]["openvino"].pop("score_calibration") == scores
    assert scores["score_temperature"] == 2.0
    assert scores["before"]["expected_calibration_error"] == 0.5
    assert scores["after"]["expected_calibration_error"] == 0.25
    assert got["float"] == {"f1": 75.0, "exact_match": 50.0, "f1_interval": [50.0, 100.0]}
    assert got["int8"] == {
        "openvino": {
            "f1": 62.5,
            "exact_match": 50.0,
            "f1_interval": [50.0, 75.0],
            "f1_difference": -12.5,
            # Paired: -50 in one passage, +25 in the other; unpaired it would reach down to -50
            # and up to +25 only where float and INT8 drew opposite passages.
            "f1_difference_interval": [-50.0, 25.0],
            "f1_ratio": 62.5 / 75.0,
            "equal_answers": 0.5,
            "equal_answers_interval": [0.5, 0.5],
        }
    }
    assert "int8" not in make_receipt(file, examples, reference, {})


def test_a_float_model_that_knows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(b"{}")
    nothing = evaluation([0.0] * 4, "wxyz")
    examples = [example(name, "c") for name in "abcd"]
    got = make_receipt(file, examples, nothing, {"onnxruntime": nothing})
    assert got["int8"]["onnxruntime"]["f1_ratio"] == 0.0


def test_measure_leaves_out_what_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.exports()
    asked = []

    def missing(engine: str, artifact: Any = None) -> str | None:
        asked.append((engine, artifact.manifest.precision))
        return None if engine == "onnxruntime" else "is not made for this artifact"

    monkeypatch.setattr(gate_module, "missing", missing)
    artifact = load_artifact(made.int8_dir)
    results = measure(artifact, read_squad(made.eval_file)[:3], score=evaluate)
    assert list(results) == ["onnxruntime"]
    assert results["onnxruntime"].total == 3
    # Each was asked about this artifact: an engine may run some and not others.
    assert asked == [("onnxruntime", "int8"), ("openvino", "int8"), ("native", "int8")]
