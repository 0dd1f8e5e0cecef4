"""Pairs of a language that is quickly learnt: every word has one translation, and order is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

__all__ = ["CONFIG", "make_config", "make_pairs"]

_WORDS = {
    "the": "der", "dog": "Hund", "cat": "Kater", "runs": "rennt", "sleeps": "schl\u00e4ft",
    "today": "heute", "and": "und", "here": "hier",
}  # fmt: skip
CONFIG = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}


def make_pairs(file: Path, *, num_pairs: int = 600, seed: int = 0) -> Path:
    """Write pairs as JSON Lines."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(num_pairs):
        words = [str(word) for word in rng.choice([*_WORDS], int(rng.integers(2, 6)))]
        pair = {"source": " ".join(words), "target": " ".join(_WORDS[word] for word in words)}
        lines.append(json.dumps(pair) + "\n")
    file.write_text("".join(lines))
    return file


def make_config(file: Path) -> Path:
    """Write the architecture of a tiny encoder."""
    file.write_text(json.dumps(CONFIG))
    return file
