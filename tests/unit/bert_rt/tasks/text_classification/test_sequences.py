"""Tests of bert_rt.tasks.text_classification.sequences."""

from __future__ import annotations

import numpy as np
import pytest

from bert_rt.errors import EmptyInputError
from bert_rt.tasks.text_classification.sequences import make_sequence, make_sequences
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput
from tests.support.data.text import make_encoding


def paper_truncation(first: int, second: int, room: int) -> tuple[int, int]:
    """Cut as `_truncate_seq_pair` of run_classifier.py says: one token at a time."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@pytest.mark.parametrize("max_seq_length", [8, 9, 14, 15])
def test_pairs_are_cut_as_in_the_paper(max_seq_length: int) -> None:
    for first in range(1, 20):
        for second in range(1, 20):
            text, pair = make_encoding(first), make_encoding(second)
            got = make_sequence(text, pair, max_seq_length=max_seq_length, cls_id=2, sep_id=3)
            kept, pair_kept = paper_truncation(first, second, max_seq_length - 3)
            want = [2, *text.input_ids[:kept], 3, *pair.input_ids[:pair_kept], 3]
            assert got.input_ids.tolist() == want
            assert got.token_type_ids.tolist() == [0] * (kept + 2) + [1] * (pair_kept + 1)
            assert got.num_tokens <= max_seq_length


@pytest.mark.parametrize(("num_tokens", "kept"), [(1, 1), (6, 6), (7, 6), (50, 6)])
def test_single_texts_keep_their_beginning(num_tokens: int, kept: int) -> None:
    text = make_encoding(num_tokens)
    got = make_sequence(text, max_seq_length=8, cls_id=2, sep_id=3)
    assert got.input_ids.tolist() == [2, *text.input_ids[:kept], 3]
    assert got.token_type_ids.tolist() == [0] * (kept + 2)
    assert got.input_ids.dtype == got.token_type_ids.dtype == np.int32


@pytest.mark.parametrize("count", [2, 20])
def test_many_texts_are_made_in_order(tokenizer: Tokenizer, count: int) -> None:
    inputs = [TextInput(f"the cat {i}", None if i % 2 else f"mat {i}") for i in range(count)]
    ids = {"max_seq_length": 16, "cls_id": tokenizer.cls_id, "sep_id": tokenizer.sep_id}
    for item, got in zip(inputs, make_sequences(inputs, tokenizer, max_seq_length=16), strict=True):
        pair = None if item.text_pair is None else tokenizer.encode(item.text_pair)
        want = make_sequence(tokenizer.encode(item.text), pair, **ids)
        np.testing.assert_array_equal(got.input_ids, want.input_ids)
        np.testing.assert_array_equal(got.token_type_ids, want.token_type_ids)


def test_a_text_without_tokens_comes_in_its_turn(tokenizer: Tokenizer) -> None:
    inputs = [TextInput("the cat"), TextInput("the mat", "\u0301"), TextInput("who")]
    sequences = make_sequences(inputs, tokenizer, max_seq_length=16)
    assert next(sequences).num_tokens == 4
    with pytest.raises(EmptyInputError, match=r"^text_pair: got text without a single token"):
        next(sequences)
