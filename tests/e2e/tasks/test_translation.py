"""Training for translation as users run it: from nothing, stopped and resumed, averaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_rt import pipeline
from bert_rt.artifact.artifact import load_artifact
from bert_rt.support.cli import run_command
from compile import export, verify
from runtime import evaluate, translate
from runtime.batch import __main__ as batch
from tests.support.data.translations import make_config, make_pairs
from train import average, finetune
from train.loop.journal import read_metrics

pytestmark = pytest.mark.timeout(600)


def run(command: Any, *arguments: object) -> int:
    return run_command(command.main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more cost more than they save on so small a model
    yield
    torch.set_num_threads(num_threads)


def flags(place: Path, output_dir: Path, *more: object) -> list[object]:
    if not (place / "config.json").exists():
        make_config(place / "config.json")
        make_pairs(place / "train.jsonl")
        make_pairs(place / "dev.jsonl", num_pairs=40, seed=1)
    return [
        *("--task", "translation", "--model_name_or_path", place / "config.json"),
        *("--train_file", place / "train.jsonl", "--validation_file", place / "dev.jsonl"),
        *("--output_dir", output_dir, "--max_seq_length", 40, "--batch_tokens", 400),
        *("--source_vocab_size", 60, "--target_vocab_size", 60, "--decoder_layers", 1),
        *("--learning_rate", 3e-3, "--logging_steps", 5, "--num_beams", 2),
        *more,
    ]


def test_a_language_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    ends = ("--max_steps", 250, "--save_steps", 10, "--save_total_limit", 3, "--dropout", 0)
    assert run(finetune, *flags(tmp_path, model, *ends)) == 0
    lines = read_metrics(model / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[0] > 3.5 and losses[-1] < 1.5
    assert lines[-1]["dev_token_accuracy"] > 90 and lines[-1]["dev_bleu"] > 80
    assert "tok:13a" in capsys.readouterr().out
    checkpoints = sorted(model.glob("checkpoint-*"))
    assert len(checkpoints) == 3
    assert run(average, "--models", *checkpoints, "--output_dir", tmp_path / "average") == 0
    with pipeline("translation", model=tmp_path / "average") as translator:
        assert translator("the dog sleeps") == [{"translation_text": "der Hund schl\u00e4ft"}]
    check_artifact(tmp_path, capsys)
    capsys.readouterr()
    assert run(finetune, *flags(tmp_path, model, *ends, "--doc_stride", 3)) == 2
    assert "doc_stride: got 3, but a translation model has no such" in capsys.readouterr().err


def check_artifact(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compile what was learnt, verify it, evaluate it and translate with it."""
    art, dev = place / "art", place / "unseen.jsonl"
    # What calibrates must not be what is evaluated.
    known = set((place / "train.jsonl").read_text().splitlines())
    lines = make_pairs(place / "more.jsonl", num_pairs=200, seed=2).read_text().splitlines()
    dev.write_text("".join(f"{line}\n" for line in lines if line not in known))
    bars = ("--max_bleu_loss", 5, "--min_bleu_ratio", 0.9, "--held_out_samples", 60)
    files = ("--calibration_file", place / "train.jsonl", "--eval_file", dev)
    where = ("--model_name_or_path", place / "average", "--output_dir", art, "--max_seq_length", 40)
    assert run(export, *where, "--int8", *files, *bars, "--calibration_samples", 64) == 0
    assert "accuracy: float BLEU" in capsys.readouterr().out
    manifest = load_artifact(art).manifest
    assert manifest.precision == "int8" and manifest.receipt is not None
    assert manifest.decoder is not None and manifest.decoder.generation.num_beams == 2
    assert manifest.receipt["int8"]["onnxruntime"]["changed_translations"] <= 0.1
    assert manifest.fusions["decoder.attention"] == 2
    assert run(verify, "--artifact", art, "--eval_file", dev) == 0
    assert "confirmed" in capsys.readouterr().out
    assert run(evaluate, "--artifact", art, "--data", dev, "--engine", "openvino") == 0
    assert "BLEU" in capsys.readouterr().out
    assert run(translate, "--artifact", art, "--text", "the dog sleeps", "--num_beams", 1) == 0
    assert json.loads(capsys.readouterr().out)["translation"] == "der Hund schl\u00e4ft"
    (place / "rows.jsonl").write_text('{"text": "the cat runs"}\n')
    flags = ("--artifact", art, "--input", place / "rows.jsonl", "--output", place / "out.jsonl")
    assert run(batch, *flags) == 0
    assert json.loads((place / "out.jsonl").read_text())["translation"] == "der Kater rennt"


def test_a_stopped_run_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    ends = ("--save_steps", 6, "--save_total_limit", 4, "--dropout", 0.1)
    assert run(finetune, *flags(tmp_path, whole, *ends, "--max_steps", 20)) == 0
    # As long a schedule, and a stop in the middle of it: all after step 12 is lost.
    assert run(finetune, *flags(tmp_path, broken, *ends, "--max_steps", 20)) == 0
    for path in (broken / "checkpoint-00000018", broken / "checkpoint-00000020"):
        assert path.is_dir()
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        path.rmdir()
    (broken / "model.safetensors").unlink()
    assert run(finetune, *flags(tmp_path, broken, *ends, "--max_steps", 20, "--resume")) == 0
    contents = [(path / "model.safetensors").read_bytes() for path in (whole, broken)]
    assert contents[0] == contents[1]
    again = flags(tmp_path, broken, *ends, "--max_steps", 20, "--resume", "--learning_rate", 1e-3)
    assert run(finetune, *again) == 2
