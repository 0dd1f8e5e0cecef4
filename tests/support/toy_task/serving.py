"""python -m tests.support.toy_task.serving: `runtime.serve` in a process that knows the task."""

from __future__ import annotations

import sys
from pathlib import Path

from bert_rt.artifact.manifest import ModelEntry
from bert_rt.support.cli import run_command
from bert_rt.tasks.registry import register
from runtime.serve.__main__ import main
from tests.support.artifacts import make_model, write_tiny_artifact
from tests.support.data.text import make_tokenizer
from tests.support.toy_task.task import HEAD, NUM_SHARES, Limits, WordShares


def write_tiny_shares(directory: Path) -> None:
    """Write an artifact of the task, with random weights."""
    files = {
        "model.onnx": make_model(num_labels=NUM_SHARES),
        "tokenizer.json": make_tokenizer().to_json(),
    }
    write_tiny_artifact(
        directory,
        task=HEAD.name,
        files=files,
        limits=Limits(),
        models={"model": ModelEntry(file="model.onnx", outputs=HEAD.outputs)},
    )


if __name__ == "__main__":
    register(WordShares())
    sys.exit(run_command(main))
