"""A tiny encoder and a small SQuAD file on the disk, for runs of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bert_rt.model.checkpoint import save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from tests.support.data.text import VOCAB, make_tokenizer

CONFIG = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
    hidden_dropout_prob=0.1,
)
# Flags of a run on these windows.
WINDOWS = ("--max_seq_length", "48", "--doc_stride", "8", "--max_query_length", "16")
_WORDS = ("the", "cat", "sat", "on", "mat", "in", "paris", "who", "is", "42")


def make_checkpoint(directory: Path, task: str = "encoder", *, seed: int = 0) -> Path:
    """Write a checkpoint with random weights."""
    torch.manual_seed(seed)
    save_checkpoint(
        directory,
        build_model(task, CONFIG),
        CONFIG,
        tokenizer_files={"tokenizer.json": make_tokenizer().to_json()},
    )
    return directory


def make_squad(file: Path, *, num_contexts: int = 20, seed: int = 0) -> Path:
    """Write questions that can be learnt: "who is in W" is answered by the word before "in W"."""
    rng = np.random.default_rng(seed)
    paragraphs = []
    for number in range(num_contexts):
        words = [str(word) for word in rng.choice(_WORDS, size=int(rng.integers(8, 60)))]
        context = " ".join(words)
        questions: list[dict[str, Any]] = []
        for turn in range(3):
            position = int(rng.integers(0, len(words) - 1))
            start = len(" ".join(words[:position])) + (position > 0)
            questions.append(
                {
                    "id": f"{number}-{turn}",
                    "question": f"who is on {words[position + 1]}",
                    "answers": [{"text": words[position], "answer_start": start}],
                }
            )
        paragraphs.append({"context": context, "qas": questions})
    document = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
    file.write_text(json.dumps(document), encoding="utf-8")
    return file
