"""From a file of SQuAD v1.1 to a model that may say "no answer", and its official figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_rt.artifact.artifact import load_artifact
from bert_rt.support.cli import run_command
from bert_rt.tasks.question_answering.squad import read_squad
from compile import export
from runtime import evaluate
from tests.support.data.articles import make_articles
from tests.support.training import WINDOWS, make_checkpoint
from train import finetune, unanswerable
from train.loop.journal import read_metrics

_FIGURES = ("HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1")


def test_questions_without_answer_from_v1_to_the_runtime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    v1 = make_articles(tmp_path / "v1.json", num_articles=6)
    train, held_out, dev = (tmp_path / f"{name}.json" for name in ("train", "held-out", "dev"))
    argv = ["--train_file", str(v1), "--output_file", str(train)]
    argv += ["--held_out_file", str(held_out), "--held_out_fraction", "0.5"]
    assert run_command(unanswerable.main, argv) == 0
    # Other passages than those that the threshold is found on.
    dev.write_text(held_out.read_text().replace("painter", "builder"))

    model = tmp_path / "model"
    argv = ["--task", "question-answering", "--version_2_with_negative", *WINDOWS]
    argv += ["--model_name_or_path", str(make_checkpoint(tmp_path / "start"))]
    argv += ["--train_file", str(train), "--validation_file", str(held_out)]
    argv += ["--output_dir", str(model), "--max_steps", "4", "--eval_steps", "2"]
    assert run_command(finetune.main, [*argv, "--per_device_train_batch_size", "4"]) == 0
    (*_, line) = [line for line in read_metrics(model / "metrics.jsonl") if "dev_f1" in line]
    assert {f"dev_{name}" for name in _FIGURES} <= set(line)
    assert line["dev_best_f1"] >= line["dev_f1"]

    artifact, result = tmp_path / "artifact", tmp_path / "result.json"
    argv = ["--model_name_or_path", str(model), "--output_dir", str(artifact), "--int8"]
    argv += ["--version_2_with_negative", *WINDOWS, "--eval_file", str(dev)]
    argv += ["--min_f1_ratio", "0.5", "--max_f1_loss", "50", "--calibration_file"]
    assert run_command(export.main, [*argv, str(v1)]) == 2
    assert "got 0 questions without an answer among" in capsys.readouterr().err
    assert not artifact.exists()
    assert run_command(export.main, [*argv, str(held_out)]) == 0
    manifest = load_artifact(artifact).manifest
    threshold = manifest.limits["null_score_diff_threshold"]
    assert manifest.provenance["threshold"]["value"] == threshold != 0.0

    argv = ["--artifact", str(artifact), "--data", str(dev), "--engine", "onnxruntime"]
    capsys.readouterr()
    assert run_command(evaluate.main, [*argv, "--json", str(result)]) == 0
    printed, figures = capsys.readouterr().out, json.loads(result.read_text())
    assert figures["best_f1"] >= figures["f1"] >= 0
    assert f"best F1 {figures['best_f1']:.2f} with null_score_diff_threshold" in printed
    num_impossible = sum(example.is_impossible for example in read_squad(dev))
    assert figures["NoAns_total"] == num_impossible
    assert f"NoAns: exact match {figures['NoAns_exact']:.2f}" in printed
    # The receipt says the same as the command.
    receipt = manifest.receipt["int8"]["onnxruntime"]
    assert figures["f1"] == pytest.approx(receipt["f1"])
    # With the threshold that suits these questions best, F1 is the best F1.
    best = ["--null_score_diff_threshold", str(figures["best_f1_thresh"])]
    assert run_command(evaluate.main, [*argv, *best, "--json", str(result)]) == 0
    assert json.loads(result.read_text())["f1"] == pytest.approx(figures["best_f1"])
