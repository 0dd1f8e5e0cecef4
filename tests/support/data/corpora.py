"""Small corpora of made-up text, in the words of tests.support.data.text.VOCAB."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support.data.text import make_tokenizer
from train.data.corpus import Corpus, CorpusReport

_WORDS = ("the", "cat", "sat", "on", "mat", "in", "paris", "who", "where", "is", "unaff", "xyz")


def tokenizer_files() -> dict[str, bytes]:
    """Return the tokenizer of VOCAB."""
    return {"tokenizer.json": make_tokenizer().to_json()}


def make_text(num_documents: int, *, seed: int = 0, num_sentences: int = 12) -> str:
    """Return documents of about that many sentences, one a line."""
    rng = random.Random(seed)
    documents = []
    for _ in range(num_documents):
        sentences = [
            " ".join(rng.choices(_WORDS, k=rng.randint(3, 14))) + " ."
            for _ in range(rng.randint(num_sentences // 2, 2 * num_sentences))
        ]
        documents.append("\n".join(sentences) + "\n")
    return "\n".join(documents)


def write_text(path: Path, num_documents: int = 40, **arguments: int) -> Path:
    """Write what make_text returns."""
    path.write_text(make_text(num_documents, **arguments), encoding="utf-8")
    return path


def make_corpus(documents: Sequence[Sequence[int]]) -> Corpus:
    """Make a corpus of documents, each given by the lengths of its sentences.

    Token t of the whole corpus has id t, so that a segment tells where it comes from.
    """
    lengths = [length for document in documents for length in document]
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    bounds = np.concatenate(([0], np.cumsum([len(item) for item in documents]))).astype(np.int64)
    report = CorpusReport(
        num_documents=len(documents),
        num_sentences=len(lengths),
        num_tokens=int(starts[-1]),
        num_unknown_tokens=0,
        num_duplicate_documents=0,
        num_short_documents=0,
    )
    tokens = np.arange(starts[-1], dtype=np.uint32)
    return Corpus(tokens, starts, bounds, np.arange(len(documents), dtype=np.uint64), report)
