"""Checkpoints as people really have them, compiled and fine-tuned by the commands."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.engines.registry import missing
from bert_rt.errors import InputError
from bert_rt.model.checkpoint import read_config
from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import load_model
from compile import export
from tests.golden.checkpoints.checkpoint_cases import CASES, GOLDEN_FILE, call_of, write_case
from tests.support.checkpoints import edit_config
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny_classifier
from train import finetune

_GOLDEN = json.loads(GOLDEN_FILE.read_text())["cases"]
_LIMITS = ("--max_seq_length", "32")


def run(command: object, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])  # type: ignore[attr-defined]


def write_rows(file: Path, *, seed: int, pairs: bool = False) -> Path:
    """Write labelled texts, or pairs of them."""
    texts = tiny_classifier.texts(60, seed=seed)
    names = ("bad", "fair", "good")
    rows = [{"text": text, "label": names[index % 3]} for index, text in enumerate(texts)]
    rows = [row | {"other": "the mat"} for row in rows] if pairs else rows
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.mark.parametrize("name", ["roberta with weights left over", "gelu_python, DistilBERT"])
def test_an_artifact_gives_the_scores_of_transformers(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_case(name, tmp_path / "c")
    flags = ("--model_name_or_path", tmp_path / "c", "--output_dir", tmp_path / "art", *_LIMITS)
    with caplog.at_level(logging.WARNING):
        assert run(export, *flags) == 0
    assert caplog.text.count("surplus keys") == ("left over" in name)
    with Runtime.load(tmp_path / "art", engine="onnxruntime") as runtime:
        got = runtime.classify(call_of(CASES[name])["inputs"], top_k=3)
    scores = {got.label: got.score} | {other.label: other.score for other in got.alternatives}
    want = {item["label"]: item["score"] for item in _GOLDEN[name]}
    assert scores == pytest.approx(want, abs=FLOAT32_ATOL)


def test_one_token_type_on_every_engine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c"
    write_case("one token type", path)
    edit_config(path, architectures=None)
    rows = write_rows(tmp_path / "train.jsonl", seed=31)
    flags = ("--model_name_or_path", path, "--output_dir", tmp_path / "art", *_LIMITS)
    assert run(export, *flags) != 0
    assert "architectures: got None" in capfd.readouterr().err
    windows = ("--doc_stride", 8, "--max_query_length", 12)
    assert run(export, *flags, *windows, "--task", "question-answering") != 0
    assert "type_vocab_size: got 1, want at least 2" in capfd.readouterr().err
    flags += ("--task", "text-classification")
    pairs = write_rows(tmp_path / "pairs.jsonl", seed=32, pairs=True)
    assert run(export, *flags, "--int8", "--calibration_file", pairs,
               "--text_pair_column", "other") != 0  # fmt: skip
    assert "type_vocab_size 1" in capfd.readouterr().err
    assert run(export, *flags, "--int8", "--calibration_file", rows) == 0
    assert run(export, *flags[:2], "--output_dir", tmp_path / "float", *flags[4:]) == 0

    texts = tiny_classifier.texts(20, seed=33)
    results = {}
    for kind, engine in (
        ("float", "torch"),
        ("float", "onnxruntime"),
        ("float", "openvino"),
        ("art", "onnxruntime"),
        ("art", "openvino"),
        ("art", "native"),
    ):
        checkpoint = path if engine == "torch" else None
        if engine != "torch" and missing(engine, load_artifact(tmp_path / kind)) is not None:
            continue
        with Runtime.load(tmp_path / kind, engine=engine, checkpoint=checkpoint) as runtime:
            results[kind, engine] = np.array([r.logits for r in runtime.classify_batch(texts)])
            with pytest.raises(InputError, match=r"texts\[1\]\.text_pair: got a second text"):
                runtime.classify_batch(["the cat", ("the cat", "the mat")])
    want = results["float", "torch"]
    assert want.std() > 100 * FLOAT32_ATOL
    for (kind, engine), got in results.items():
        if kind == "float":
            np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_ATOL, err_msg=engine)
        else:
            error = np.sqrt(((got - results["art", "onnxruntime"]) ** 2).mean()) / want.std()
            assert error < 0.05, engine
    assert ("art", "onnxruntime") in results


def test_fine_tuning_starts_from_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c"
    write_case("electra with weights left over", path)
    edit_config(path, architectures=None, hidden_act="gelu_python")
    flags = ("--task", "text-classification", "--model_name_or_path", path, "--max_steps", 2)
    flags += ("--train_file", write_rows(tmp_path / "train.jsonl", seed=41), *_LIMITS)
    with caplog.at_level(logging.WARNING):
        assert run(finetune, *flags, "--output_dir", tmp_path / "run") == 0, capfd.readouterr().err
    assert sum("surplus keys" in record.getMessage() for record in caplog.records) == 1
    raw = read_config(tmp_path / "run")[1]
    assert raw["architectures"] == ["ElectraForSequenceClassification"]
    assert (raw["hidden_act"], raw["id2label"]["2"]) == ("gelu", "good")
    assert load_model(tmp_path / "run").unused_keys == ()


def test_fine_tuning_says_that_one_token_type_does_not_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c"
    write_case("one token type", path)
    flags = ("--model_name_or_path", path, "--output_dir", tmp_path / "run", "--max_steps", 2)
    pairs = write_rows(tmp_path / "pairs.jsonl", seed=42, pairs=True)
    assert run(finetune, "--task", "text-classification", *flags, "--train_file", pairs,
               "--text_pair_column", "other", *_LIMITS) != 0  # fmt: skip
    assert "pairs.jsonl, line 1: text_pair: got a second text" in capfd.readouterr().err
    squad = tmp_path / "squad.json"
    squad.write_text('{"version": "1.1", "data": []}')
    flags = (*flags[:3], tmp_path / "other", *flags[4:])
    assert run(finetune, "--task", "question-answering", *flags, "--train_file", squad) != 0
    assert "type_vocab_size: got 1, want at least 2" in capfd.readouterr().err
