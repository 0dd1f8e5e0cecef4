"""Tests of compile.gate."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_rt.errors import CalibrationError, ConfigError, ParityError
from bert_rt.evaluation import Evaluation
from bert_rt.squad import SquadExample, read_squad
from compile import gate as gate_module
from compile.gate import Gate, check_disjoint, data_hash, make_receipt, measure
from tests.unit.compile import tiny


def receipt(float_f1: float, **int8: float) -> dict[str, Any]:
    return {
        "float": {"f1": float_f1, "exact_match": 0.0},
        "int8": {engine: {"f1": f1, "exact_match": 0.0} for engine, f1 in int8.items()},
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


def test_data_hash(tmp_path: Path) -> None:
    file = tmp_path / "data.json.gz"
    file.write_bytes(b"as it stands on the disk")
    assert data_hash(file) == hashlib.sha256(b"as it stands on the disk").hexdigest()


def evaluation(f1: float, exact_match: float, predictions: dict[str, str]) -> Evaluation:
    return Evaluation(exact_match, f1, 4, 1.0, predictions, np.zeros(4), np.zeros(4))


def test_receipt(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(b"{}")
    examples = [example(name, "c") for name in "abcd"]
    reference = evaluation(80.0, 70.0, {"a": "x", "b": "y", "c": "", "d": "z"})
    got = make_receipt(
        file,
        examples,
        reference,
        {"openvino": evaluation(60.0, 50.0, {"a": "x", "b": "Y", "c": "", "d": "z"})},
    )
    assert got == {
        "dataset": {"name": "dev.json", "sha256": data_hash(file), "total": 4},
        "float": {"f1": 80.0, "exact_match": 70.0},
        "int8": {
            "openvino": {"f1": 60.0, "exact_match": 50.0, "f1_ratio": 0.75, "equal_answers": 0.75}
        },
    }
    assert "int8" not in make_receipt(file, examples, reference, {})


def test_a_float_model_that_knows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(b"{}")
    nothing = evaluation(0.0, 0.0, {"a": ""})
    got = make_receipt(file, [example("a", "c")], nothing, {"onnxruntime": nothing})
    assert got["int8"]["onnxruntime"]["f1_ratio"] == 0.0


def test_measure_leaves_out_what_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.exports()
    asked = []

    def missing(engine: str, artifact: Any = None) -> str | None:
        asked.append((engine, artifact.manifest.precision))
        return None if engine == "onnxruntime" else "is not made for this artifact"

    monkeypatch.setattr(gate_module, "missing", missing)
    results = measure(made.int8_dir, read_squad(made.eval_file)[:3])
    assert list(results) == ["onnxruntime"]
    assert results["onnxruntime"].total == 3
    # Each was asked about this artifact: an engine may run some and not others.
    assert asked == [("onnxruntime", "int8"), ("openvino", "int8"), ("native", "int8")]
