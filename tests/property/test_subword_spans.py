"""Byte-level BPE and SentencePiece's unigram model: spans of tokens in hard texts, hypothesis."""

from __future__ import annotations

import functools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.spans import decode
from bert_rt.text.tokenization import Tokenizer
from tests.support.data.text import texts
from tests.support.families import write_byte_level_bpe, write_unigram

_SPACED = (
    "  ",
    " \n",
    "\u00a0",
    "\u3000",
    " caf\u00e9",
    " \U0001f469\u200d\U0001f52c",
    " the",
    "\t42",
)
spaced_texts = st.one_of(
    texts, st.lists(st.one_of(st.sampled_from(_SPACED), texts), max_size=6).map("".join)
)
"""Texts with more white space than words need, at their ends too."""


@functools.cache
def make(name: str) -> Tokenizer:
    write = {"bpe": write_byte_level_bpe, "unigram": write_unigram}[name]
    with TemporaryDirectory() as directory:
        write(Path(directory))
        return Tokenizer.from_directory(directory)


@pytest.mark.parametrize("name", ["bpe", "unigram"])
@given(text=spaced_texts)
def test_spans_are_whole_characters_without_space_around(name: str, text: str) -> None:
    offsets = make(name).encode(text).offsets
    assert np.all(offsets[1:, 0] >= offsets[:-1, 0]) and np.all(offsets[1:, 1] >= offsets[:-1, 1])
    for start, end in offsets.tolist():
        assert 0 <= start < end <= len(text)
        piece = text[start:end]
        assert piece == piece.strip() or piece.isspace()


@given(spaced_texts)
def test_byte_level_bpe_loses_no_character(text: str) -> None:
    covered = np.zeros(len(text), np.bool_)
    for start, end in make("bpe").encode(text).offsets.tolist():
        covered[start:end] = True
    assert all(text[index].isspace() for index in np.flatnonzero(~covered))


@given(spaced_texts)
def test_a_batch_is_its_texts(text: str) -> None:
    other = " the cat"
    for tokenizer in (make("bpe"), make("unigram")):
        for one, alone in zip(
            tokenizer.encode_batch([other, text]), map(tokenizer.encode, (other, text)), strict=True
        ):
            np.testing.assert_array_equal(one.input_ids, alone.input_ids)
            np.testing.assert_array_equal(one.offsets, alone.offsets)


@pytest.mark.parametrize("name", ["bpe", "unigram"])
@given(question=spaced_texts, context=spaced_texts, seed=st.integers(0, 2**32 - 1))
def test_answers_are_exact_slices(name: str, question: str, context: str, seed: int) -> None:
    tokenizer = make(name)
    asked, encoding = tokenizer.encode(question), tokenizer.encode(context)
    assume(len(asked.input_ids) and len(encoding.input_ids))
    config = AnsweringConfig(max_seq_length=24, doc_stride=4, max_query_length=8)
    features = make_features(
        0,
        asked,
        encoding,
        config=config,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        num_separators=tokenizer.num_separators,
    )
    random = np.random.default_rng(seed)
    logits = [
        [random.normal(0, 5, one.num_tokens).astype(np.float32) for one in features]
        for _ in range(2)
    ]
    best = decode(context, encoding, features, *logits, config=config, top_k=5)
    for one in (best, *best.alternatives):
        assert one.text and one.text == context[one.start : one.end]
        assert one.text == one.text.strip() or one.text.isspace()
