"""A tiny text classifier with random weights, exported once for all tests."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from bert_rt.api import Runtime
from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.text_classification.labelled import read_labelled
from compile.export import main
from compile.graph.trace import trace
from tests.support.data.text import make_tokenizer, write_vocab
from tests.unit.compile import tiny

LABELS = ("bad", "good")
LIMIT_FLAGS = ("--max_seq_length", str(tiny.LIMITS.max_seq_length))


@dataclass(frozen=True)
class Exports:
    """What the command has made of the tiny classifier, and of what."""

    checkpoint: Path
    calibration_file: Path
    eval_file: Path
    float_dir: Path
    int8_dir: Path


def texts(count: int, *, seed: int) -> list[str]:
    """Make texts of the tokenizer's words, all different."""
    random = np.random.default_rng(seed)
    words = ("the", "cat", "sat", "on", "mat", "in", "paris", "who", "is", "a", "x", "42", ".")
    return [
        f"{seed} {index} " + " ".join(random.choice(words, random.integers(3, 30)))
        for index in range(count)
    ]


def make_model(num_labels: int = 2) -> Any:
    """Make a classifier that finds both classes about as often, with logits some units wide."""
    model: Any = tiny.make_model("text-classification", seed=4, num_labels=num_labels)
    with torch.no_grad():
        model.classifier.weight *= 16
    tokenizer = make_tokenizer()
    rows = []
    for text in texts(60, seed=1):
        ids = torch.tensor([[tokenizer.cls_id, *tokenizer.encode(text).input_ids[:40]]])
        with torch.no_grad():
            rows.append(model(ids, torch.ones_like(ids), torch.zeros_like(ids)))
    with torch.no_grad():
        model.classifier.bias -= torch.cat(rows).median(0).values
    return model


def write_checkpoint(directory: Path, model: Any = None, **extra: Any) -> Path:
    """Write the tiny classifier, tokenizer included."""
    directory.mkdir(parents=True)
    write_vocab(directory)
    files = {"vocab.txt": (directory / "vocab.txt").read_bytes()}
    extra = {"id2label": dict(enumerate(LABELS))} | extra
    extra["id2label"] = {str(index): name for index, name in extra["id2label"].items()}
    save_checkpoint(
        directory, model or make_model(), tiny.CONFIG, tokenizer_files=files, extra=extra
    )
    load_model(directory)
    return directory


def write_tsv(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write labelled texts."""
    path.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return path


@functools.cache
def exports() -> Exports:
    """Return the float artifact, without a receipt, and the INT8 one, with a receipt.

    The labels of the evaluation file are what the float model says, so that its accuracy is 100
    and INT8's tells how often it says something else.
    """
    directory = Path(tempfile.mkdtemp(prefix="bert-rt-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    calibration = [(text, LABELS[index % 2]) for index, text in enumerate(texts(60, seed=2))]
    made = Exports(
        checkpoint=write_checkpoint(directory / "checkpoint"),
        calibration_file=write_tsv(directory / "calibration.tsv", calibration),
        eval_file=directory / "evaluation.tsv",
        float_dir=directory / "float",
        int8_dir=directory / "int8",
    )
    common = ["--model_name_or_path", str(made.checkpoint), *LIMIT_FLAGS]
    # Traced once: it takes longer than all the rest.
    graph = tiny.to_bytes(trace(load_model(made.checkpoint)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "compile.tasks.base.trace", lambda _: ir.from_proto(onnx.load_from_string(graph))
        )
        _export(made, common)
    return made


def _export(made: Exports, common: list[str]) -> None:
    assert main([*common, "--output_dir", str(made.float_dir)]) == 0
    asked = texts(200, seed=3)
    with Runtime.load(made.float_dir, engine="onnxruntime") as runtime:
        results = runtime.classify_batch(asked)
    # Numbers for names, as many files have them.
    gold = [(text, str(result.index)) for text, result in zip(asked, results, strict=True)]
    write_tsv(made.eval_file, gold)
    assert len(read_labelled(made.eval_file)) == 200
    arguments = [*int8_flags(made), *bars()]
    assert main([*common, "--output_dir", str(made.int8_dir), *arguments]) == 0


def int8_flags(made: Exports) -> list[str]:
    """Return the flags that ask for INT8 with a receipt."""
    files = ["--calibration_file", str(made.calibration_file), "--eval_file", str(made.eval_file)]
    return ["--int8", *files]


def bars(ratio: float = 0.5, loss: float = 50) -> list[str]:
    """Return the flags of the gate."""
    return ["--min_accuracy_ratio", str(ratio), "--max_accuracy_loss", str(loss)]
