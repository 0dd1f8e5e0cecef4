"""Runs batches of random shapes through an engine and prints what memory this process then has.

    python -m tests.support.memory ENGINE NUM_BATCHES

Prints MiB of resident memory after a third of the batches, and after all.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bert_rt.engines.base import EngineOptions
from bert_rt.engines.registry import open_engine
from bert_rt.model.config import BertConfig
from bert_rt.tasks.registry import find_task
from bert_rt.types import PackedBatch
from tests.support.artifacts import CONFIG, make_model, write_tiny_artifact
from tests.support.data.text import make_tokenizer

# Small enough for thousands of batches, with several layers: a shape has kernels for each.
_CONFIG: BertConfig = replace(CONFIG, num_hidden_layers=4, hidden_size=64, intermediate_size=128)


def _native_engine() -> Any:
    from bert_rt.engines.native import NativeEngine
    from tests.kernels import graphs

    return NativeEngine(graphs.build(graphs.TINY).SerializeToString(), num_threads=1)


def _write_checkpoint(directory: Path) -> str:
    """Write a checkpoint for the torch engine and return the hash that names it."""
    from bert_rt.model.checkpoint import checkpoint_hash, save_checkpoint
    from bert_rt.tasks.checkpoints import build_model

    model = build_model("question-answering", _CONFIG, 2)
    save_checkpoint(directory, model, _CONFIG, tokenizer_files={})
    return checkpoint_hash(directory)


def _open(name: str, folder: Path) -> Any:
    if name == "native":
        return _native_engine()
    provenance = {"checkpoint_sha256": _write_checkpoint(folder / "c")} if name == "torch" else {}
    files = {"model.onnx": make_model(_CONFIG), "tokenizer.json": make_tokenizer().to_json()}
    artifact = write_tiny_artifact(
        folder / "a", architecture=_CONFIG, files=files, provenance=provenance
    )
    options = EngineOptions(
        num_threads=1, checkpoint=str(folder / "c"), head=find_task("question-answering").head_spec
    )
    return open_engine(name, artifact, options)


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Run the batches."""
    name, count = sys.argv[1], int(sys.argv[2])
    with TemporaryDirectory() as folder:
        engine = _open(name, Path(folder))
    generator = np.random.default_rng(0)
    for index in range(count):
        # Questions of 1 to 60 words, 1 to 16 of them.
        lengths = generator.integers(3, 65, generator.integers(1, 17)).tolist()
        # Both vocabularies have these.
        ids = generator.integers(0, 97, sum(lengths)).astype(np.int32)
        bounds = np.cumsum([0, *lengths]).astype(np.int32)
        engine.run(PackedBatch(ids, np.zeros_like(ids), bounds, max(lengths)))
        if index + 1 in (count // 3, count):
            print(f"{resident_mib():.1f}")


if __name__ == "__main__":
    main()
