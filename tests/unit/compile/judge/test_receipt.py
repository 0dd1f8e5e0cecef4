"""Tests of compile.judge.receipt."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt.artifact.artifact import load_artifact
from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation, evaluate
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from compile.judge import receipt as receipt_module
from compile.judge.receipt import data_hash, make_receipt, measure
from compile.tasks.base import Settings
from compile.tasks.question_answering import QuestionAnswering
from tests.unit.compile import tiny

TASK = QuestionAnswering(Settings())


def example(name: str, context: str) -> SquadExample:
    return SquadExample(name, "", "Who?", context, (), (), True)


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
    got = make_receipt(TASK, file, examples, reference, {"openvino": int8})
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
    assert "int8" not in make_receipt(TASK, file, examples, reference, {})


def test_a_float_model_that_knows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(b"{}")
    nothing = evaluation([0.0] * 4, "wxyz")
    examples = [example(name, "c") for name in "abcd"]
    got = make_receipt(TASK, file, examples, nothing, {"onnxruntime": nothing})
    assert got["int8"]["onnxruntime"]["f1_ratio"] == 0.0


def test_measure_leaves_out_what_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.exports()
    asked = []

    def missing(engine: str, artifact: Any = None) -> str | None:
        asked.append((engine, artifact.manifest.precision))
        return None if engine == "onnxruntime" else "is not made for this artifact"

    monkeypatch.setattr(receipt_module, "missing", missing)
    artifact = load_artifact(made.int8_dir)
    results = measure(artifact, read_squad(made.eval_file)[:3], score=evaluate)
    assert list(results) == ["onnxruntime"]
    assert results["onnxruntime"].total == 3
    # Each was asked about this artifact: an engine may run some and not others.
    assert asked == [("onnxruntime", "int8"), ("openvino", "int8"), ("native", "int8")]
