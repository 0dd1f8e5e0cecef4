"""A small WordPiece vocabulary, texts that are hard to slice, and windows without a tokenizer."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, Feature

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = ("the", "cat", "sat", "on", "mat", "in", "paris", "who", "where", "is", "un", "##aff")

VOCAB = (
    *SPECIAL_TOKENS,
    *string.ascii_letters,
    *(f"##{letter}" for letter in string.ascii_letters),
    *string.digits,
    *(f"##{digit}" for digit in string.digits),
    *string.punctuation,
    *_WORDS,
    "\u4e2d",  # Two Chinese characters; a third one in the tests is unknown.
    "\u6587",
)
"""Tokens in id order: ids are stable, so tests may say them."""

# Each piece has broken some tokenizer: astral emoji with a joiner and a skin tone, NFD accents, a
# lone combining mark, CRLF, tab, zero-width space and BOM, soft hyphen, CJK, right-to-left, a
# letter that lower-cases to two, a ligature, a control character, "[SEP]" as text.
_PIECES = (
    "\U0001f600",
    "\U0001f469\u200d\U0001f52c",
    "\U0001f44d\U0001f3fd",
    "e\u0301",
    "\u0301",
    "caf\u00e9",
    "\r\n",
    "\t",
    "\u200b",
    "\ufeff",
    "so\u00adft",
    "\u4e2d\u6587\u5b57",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u0645\u0631\u062d\u0628\u0627",
    "\u0130stanbul",
    "\ufb01ne",
    "\u0007",
    "[SEP]",
    "The cat sat",
    " ",
    "unaffable, 42%",
)

texts = st.one_of(
    st.lists(st.sampled_from(_PIECES), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
"""Any text that can be encoded as UTF-8, mostly of the hard pieces."""


def write_vocab(directory: Path, vocab: Sequence[str] = VOCAB, **options: Any) -> None:
    """Write vocab.txt and, where there are options, tokenizer_config.json."""
    lines = "".join(f"{token}\n" for token in vocab)
    (directory / "vocab.txt").write_text(lines, encoding="utf-8")
    if options:
        (directory / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")


def make_tokenizer(**options: Any) -> Tokenizer:
    """Make a tokenizer of VOCAB, with the options of tokenizer_config.json."""
    with TemporaryDirectory() as directory:
        write_vocab(Path(directory), **options)
        return Tokenizer.from_directory(directory)


def make_encoding(num_tokens: int) -> Encoding:
    """Make an encoding whose token t has id 1000 + t and the characters [2 t, 2 t + 1)."""
    starts = 2 * np.arange(num_tokens, dtype=np.int32)
    input_ids = np.arange(1000, 1000 + num_tokens, dtype=np.int32)
    return Encoding(input_ids, np.stack((starts, starts + 1), axis=1))


def make_context(num_tokens: int) -> str:
    """Make the text that make_encoding(num_tokens) is the encoding of."""
    return " ".join(string.ascii_letters[t % 52] for t in range(num_tokens))


def make_windows(num_tokens: int, config: AnsweringConfig, *, num_query: int = 2) -> list[Feature]:
    """Cut make_encoding(num_tokens) into windows; [CLS] is id 2 and [SEP] id 3."""
    question = make_encoding(num_query)
    context = make_encoding(num_tokens)
    return make_features(0, question, context, config=config, cls_id=2, sep_id=3)
