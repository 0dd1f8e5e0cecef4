"""A small random checkpoint on the disk, and what changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model

CONFIG = BertConfig(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
)
TOKENIZER_FILES = {
    "tokenizer.json": json.dumps(
        {"model": {"vocab": {"[PAD]": 0, "a": 19}}, "added_tokens": [{"id": 0}]}
    ).encode(),
    "vocab.txt": b"[PAD]\na\n",
    "tokenizer_config.json": b"{}",
}
WEIGHTS = "model.safetensors"


def save(path: Path, task: str = "question-answering", **extra: Any) -> Path:
    """Write a small random checkpoint."""
    torch.manual_seed(0)
    model = build_model(task, CONFIG, 3)
    save_checkpoint(path, model, CONFIG, tokenizer_files=TOKENIZER_FILES, extra=extra)
    return path


def edit_config(path: Path, **values: Any) -> None:
    """Change fields of config.json; None removes one."""
    raw = json.loads((path / "config.json").read_text()) | values
    raw = {name: value for name, value in raw.items() if value is not None}
    (path / "config.json").write_text(json.dumps(raw))


def edit_weights(path: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors, their names written with "__" for "."; None removes one."""
    tensors: dict[str, Any] = load_file(path / WEIGHTS)
    tensors |= {name.replace("__", "."): value for name, value in changes.items()}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    save_file(tensors, path / WEIGHTS)
