"""Tests of compile.tasks.text_classification."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bert_rt.api import Runtime
from bert_rt.errors import CalibrationError, ConfigError, EmptyInputError, ParityError
from bert_rt.tasks.text_classification.evaluation import ClassEvaluation
from bert_rt.tasks.text_classification.head import ClassifierHead
from bert_rt.tasks.text_classification.labelled import LabelledText
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput
from compile.export import main
from compile.judge.gate import Gate
from compile.judge.receipt import data_hash, make_receipt
from compile.tasks.base import Settings
from compile.tasks.text_classification import SingleLabel
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny, tiny_classifier

LIMITS = {"max_seq_length": tiny.LIMITS.max_seq_length}
TASK = SingleLabel(Settings(limits=LIMITS), labels=("no", "yes"), head=ClassifierHead())
MEASURE = SingleLabel.measure
ERRORS = {"encoder.x": 0.01}


def receipt(
    accuracy: float, interval: tuple[float, float], *, base: float = 80.0
) -> dict[str, Any]:
    scores = {"accuracy": accuracy, "accuracy_difference_interval": list(interval)}
    return {
        "intervals": {"num_clusters": 872},
        "float": {"accuracy": base},
        "int8": {"onnxruntime": scores},
    }


@pytest.mark.parametrize(
    ("accuracy", "interval"), [(80.0, (-1.0, 1.0)), (79.2, (-1.99, 0.3)), (90.0, (9.0, 11.0))]
)
def test_passes(accuracy: float, interval: tuple[float, float]) -> None:
    Gate(MEASURE).check(receipt(accuracy, interval), ERRORS)


@pytest.mark.parametrize(
    ("accuracy", "interval", "field"),
    [
        (79.19, (-1.0, 1.0), "min_accuracy_ratio"),
        (math.nan, (-1.0, 1.0), "min_accuracy_ratio"),
        (80.0, (-2.0, 2.0), "max_accuracy_loss"),
        (80.0, (math.nan, 2.0), "max_accuracy_loss"),
    ],
)
def test_fails(accuracy: float, interval: tuple[float, float], field: str) -> None:
    with pytest.raises(ParityError) as caught:
        Gate(MEASURE).check(receipt(accuracy, interval), ERRORS)
    message = str(caught.value)
    assert message.startswith(f"{field}: INT8 on onnxruntime has accuracy {accuracy:.2f}, float 80")
    assert "encoder.x (1.00%)" in message and "Nothing was written" in message


@pytest.mark.parametrize("ratio", [1.01, -0.1, math.nan])
def test_a_ratio_that_is_none(ratio: float) -> None:
    with pytest.raises(ConfigError, match="min_accuracy_ratio: got"):
        Gate(MEASURE, {"min_accuracy_ratio": ratio})


@pytest.mark.parametrize("loss", [0.0, -1.0, 101.0, math.nan])
def test_a_loss_that_is_none(loss: float) -> None:
    with pytest.raises(ConfigError, match="max_accuracy_loss: got"):
        Gate(MEASURE, {"max_accuracy_loss": loss})


def test_a_head_whose_biases_are_zeros_is_compiled(tmp_path: Path) -> None:
    # As heads are that nobody trained: the exporter leaves such biases out.
    model = tiny_classifier.make_model()
    with torch.no_grad():
        model.bert.pooler.dense.bias.zero_()
        model.classifier.bias.zero_()
    checkpoint = tiny_classifier.write_checkpoint(tmp_path / "checkpoint", model)
    flags = ["--model_name_or_path", str(checkpoint), *tiny_classifier.LIMIT_FLAGS]
    assert main([*flags, "--output_dir", str(tmp_path / "float")]) == 0
    texts = tiny_classifier.texts(3, seed=5)
    probabilities = []
    for engine in ("onnxruntime", "torch"):
        with Runtime.load(tmp_path / "float", engine=engine, checkpoint=checkpoint) as runtime:
            results = runtime.classify_batch(texts)
        probabilities.append([result.score for result in results])
    assert probabilities[0] == pytest.approx(probabilities[1], abs=FLOAT32_ATOL)


def row(text: str, place: str = "f, line 2", pair: str | None = None) -> LabelledText:
    return LabelledText(TextInput(text, pair), "x", place)


def test_disjoint_texts() -> None:
    others = [row("b"), row("c"), row("b", pair="d")]
    TASK.check_disjoint([row("a"), row("b", pair="c")], others, field="f")
    with pytest.raises(CalibrationError) as caught:
        TASK.check_disjoint(
            [row("a", "f, line 7")], [row("b"), row("a", "g, line 3")], field="calibration_file"
        )
    assert "shares 1 texts" in str(caught.value)
    assert "f, line 7, and in g, line 3" in str(caught.value)
    with pytest.raises(CalibrationError, match=r"^score_calibration_file: shares 1 texts"):
        TASK.check_disjoint([row("a")], [row("a")], field="score_calibration_file")


def test_calibration_sequences(tokenizer: Tokenizer) -> None:
    rows = [row(f"the cat {index}") for index in range(20)]
    draw = {"num_samples": 8, "seed": 5}
    got = TASK.draw(rows, tokenizer, **draw)
    again = TASK.draw(rows, tokenizer, **draw)
    assert [s.input_ids.tolist() for s in got] == [s.input_ids.tolist() for s in again]
    # Each text at most once, and all of them where that many are wanted.
    assert len({tuple(s.input_ids.tolist()) for s in got}) == 8
    every = TASK.draw(rows, tokenizer, num_samples=100, seed=0)
    assert len({tuple(s.input_ids.tolist()) for s in every}) == 20
    with pytest.raises(EmptyInputError, match="f, line 2: text: got text without"):
        TASK.draw([row("\u0301")], tokenizer, **draw)


def evaluation(*predicted: int, gold: tuple[int, ...] = (0, 1, 1, 0)) -> ClassEvaluation:
    predicted_Q = np.array(predicted)
    correct_Q = (predicted_Q == np.array(gold)).astype(np.float64)
    return ClassEvaluation(
        accuracy=100 * correct_Q.mean(),
        macro_f1=50.0,
        total=4,
        texts_per_second=1.0,
        predicted_Q=predicted_Q,
        correct_Q=correct_Q,
        score_Q=np.full(4, 0.75),
        raw_score_Q=np.full(4, 1.0),
        score_temperature=1.5,
        labels=("no", "yes"),
    )


def test_receipt(tmp_path: Path) -> None:
    file = tmp_path / "dev.tsv"
    file.write_bytes(b"as it stands")
    rows = [row(text) for text in "abcd"]
    reference, int8 = evaluation(0, 1, 1, 1), evaluation(0, 0, 1, 0)
    got = make_receipt(TASK, file, rows, reference, {"native": int8})
    assert got["dataset"] == {"name": "dev.tsv", "sha256": data_hash(file), "total": 4}
    assert got["intervals"]["num_clusters"] == 4
    assert (got["float"]["accuracy"], got["float"]["macro_f1"]) == (75.0, 50.0)
    scores = got["int8"]["native"]
    assert (scores["accuracy"], scores["accuracy_difference"]) == (75.0, 0.0)
    assert (scores["accuracy_ratio"], scores["equal_labels"]) == (1.0, 0.5)
    calibration = scores["score_calibration"]
    assert calibration["score_temperature"] == 1.5
    errors = [calibration[name]["expected_calibration_error"] for name in ("before", "after")]
    assert errors == [0.25, 0.0]
    low, high = scores["accuracy_difference_interval"]
    assert low < 0 < high
    assert "int8" not in make_receipt(TASK, file, rows, reference, {})
    nothing = evaluation(1, 0, 0, 1)
    scores = make_receipt(TASK, file, rows, nothing, {"native": int8})["int8"]["native"]
    assert scores["accuracy_ratio"] == 0.0


def test_changed_classes() -> None:
    rows = [row("a"), row("b", pair="second"), row("c"), row("d")]
    changes = TASK.changes(evaluation(0, 1, 1, 1), evaluation(0, 0, 1, 0), rows)
    # What became wrong comes before what became right.
    rows = [(c.example, c.float_text, c.int8_text, c.float_score, c.int8_score) for c in changes]
    assert rows == [("b / second", "yes", "no", 1.0, 0.0), ("d", "yes", "no", 0.0, 1.0)]
