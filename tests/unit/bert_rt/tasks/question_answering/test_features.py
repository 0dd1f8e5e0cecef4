"""Unit tests of bert_rt.tasks.question_answering.features."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import tokenizers

from bert_rt.errors import EmptyInputError, InputError, InputTooLongError
from bert_rt.model.config import AnsweringConfig
from bert_rt.tasks.question_answering import features as features_module
from bert_rt.tasks.question_answering.features import (
    MAX_CONTEXT_CHARS,
    MAX_QUESTION_CHARS,
    check_question,
    check_text,
    make_features,
    make_sequence,
    make_sequences,
)
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput
from tests.support.text import make_encoding, make_windows

# With a question of 2 tokens a window has room for 20 - 2 - 3 = 15 context tokens and moves by 10.
CONFIG = AnsweringConfig(max_seq_length=20, max_query_length=4, doc_stride=5)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", EmptyInputError, "context: got '', want text that is not only white space"),
        (" \t\r\n\u3000", EmptyInputError, "context: got ' .*', want text"),
        ("x" * 11, InputTooLongError, "context: got 11 characters, want at most 10 characters"),
        ("a\0b", InputError, "context: got a NUL character at character 1"),
        ("\ud800", InputError, r"context: got the lone surrogate '\\ud800' at character 0"),
        (None, InputError, "context: got NoneType, want str"),
        (b"x", InputError, "context: got bytes, want str"),
    ],
)
def test_check_text_says_what_is_wrong(text: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        check_text("context", text, max_chars=10)
    assert caught.type is error


@pytest.mark.parametrize("text", ["x", " x", "x" * 10, "\u4e2d\U0001f600", "a\u0007"])
def test_check_text_accepts_text(text: str) -> None:
    check_text("context", text, max_chars=10)


def test_check_question_names_the_field_and_its_limit() -> None:
    check_question("who?", "the cat")
    check_question("q" * MAX_QUESTION_CHARS, "the cat")
    with pytest.raises(InputTooLongError, match=f"question: .* at most {MAX_QUESTION_CHARS}"):
        check_question("q" * (MAX_QUESTION_CHARS + 1), "the cat")
    with pytest.raises(InputTooLongError, match=f"context: .* at most {MAX_CONTEXT_CHARS}"):
        check_question("who?", "c" * (MAX_CONTEXT_CHARS + 1))
    with pytest.raises(EmptyInputError, match="question: got ''"):
        check_question("", "the cat")


def test_one_window() -> None:
    (feature,) = make_windows(3, CONFIG)
    assert feature.input_ids.tolist() == [2, 1000, 1001, 3, 1000, 1001, 1002, 3]
    assert feature.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert feature.input_ids.dtype == feature.token_type_ids.dtype == np.int32
    assert (feature.context_offset, feature.context_start, feature.context_length) == (4, 0, 3)
    assert feature.is_max_context.tolist() == [True, True, True]
    assert feature.question_index == 0


@pytest.mark.parametrize(
    ("num_tokens", "starts", "lengths"),
    [
        (1, [0], [1]),
        (14, [0], [14]),
        (15, [0], [15]),
        (16, [0, 10], [15, 6]),
        (25, [0, 10], [15, 15]),
        (26, [0, 10, 20], [15, 15, 6]),
    ],
)
def test_windows_move_by_room_minus_doc_stride(
    num_tokens: int, starts: list[int], lengths: list[int]
) -> None:
    windows = make_windows(num_tokens, CONFIG)
    assert [window.context_start for window in windows] == starts
    assert [window.context_length for window in windows] == lengths
    for window in windows:
        context_ids = window.input_ids[window.context_offset : -1] - 1000
        expected = range(window.context_start, window.context_start + window.context_length)
        assert context_ids.tolist() == list(expected)
        assert window.num_tokens <= CONFIG.max_seq_length


def test_windows_are_those_of_the_tokenizers_library(tokenizer: Tokenizer) -> None:
    question, context = "who is the cat", " ".join("abcdefghij" * 9)
    backend = tokenizers.Tokenizer.from_buffer(tokenizer.to_json())
    backend.enable_truncation(
        max_length=CONFIG.max_seq_length, stride=CONFIG.doc_stride, strategy="only_second"
    )
    first = backend.encode(question, context)
    windows = make_features(
        7,
        tokenizer.encode(question),
        tokenizer.encode(context),
        config=CONFIG,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
    )
    assert [window.input_ids.tolist() for window in windows] == [
        encoding.ids for encoding in (first, *first.overflowing)
    ]
    assert [window.token_type_ids.tolist() for window in windows] == [
        encoding.type_ids for encoding in (first, *first.overflowing)
    ]
    assert {window.question_index for window in windows} == {7}


def test_question_is_cut_to_max_query_length() -> None:
    (window,) = make_windows(3, CONFIG, num_query=9)
    assert window.input_ids.tolist() == [2, 1000, 1001, 1002, 1003, 3, 1000, 1001, 1002, 3]


def test_a_short_question_leaves_more_room() -> None:
    (window,) = make_windows(16, CONFIG, num_query=1)
    assert window.num_tokens == CONFIG.max_seq_length


def test_without_overlap_windows_meet() -> None:
    config = AnsweringConfig(max_seq_length=20, max_query_length=4, doc_stride=0)
    windows = make_windows(40, config)
    assert [window.context_start for window in windows] == [0, 15, 30]
    for one, other in pairwise(windows):
        assert one.context_start + one.context_length == other.context_start
    assert all(window.is_max_context.all() for window in windows)


def check_is_max_context(spans: list[tuple[int, int]], current: int, position: int) -> bool:
    """Copy of run_squad.py's `_check_is_max_context`, token by token."""
    best_score, best_index = None, None
    for index, (start, length) in enumerate(spans):
        end = start + length - 1
        if position < start or position > end:
            continue
        score = min(position - start, end - position) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best_index = score, index
    return current == best_index


@pytest.mark.parametrize(
    ("max_seq_length", "doc_stride", "num_tokens"),
    [(20, 5, 26), (20, 12, 41), (20, 12, 16), (20, 1, 44), (384, 128, 700), (384, 350, 900)],
)
def test_max_context_is_that_of_run_squad(
    max_seq_length: int, doc_stride: int, num_tokens: int
) -> None:
    config = AnsweringConfig(
        max_seq_length=max_seq_length, max_query_length=2, doc_stride=doc_stride
    )
    windows = make_windows(num_tokens, config)
    spans = [(window.context_start, window.context_length) for window in windows]
    assert len(spans) > 1
    for index, window in enumerate(windows):
        start, length = spans[index]
        expected = [
            check_is_max_context(spans, index, position)
            for position in range(start, start + length)
        ]
        assert window.is_max_context.tolist() == expected


@pytest.mark.parametrize("field", ["question", "context"])
def test_text_without_tokens_is_refused(tokenizer: Tokenizer, field: str) -> None:
    encodings = {"question": make_encoding(2), "context": make_encoding(2)}
    encodings[field] = tokenizer.encode("\u0007\u200b")
    with pytest.raises(EmptyInputError, match=f"{field}: got text without a single token"):
        make_features(0, **encodings, config=CONFIG, cls_id=2, sep_id=3)


def test_too_many_windows_are_refused_before_they_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features_module, "MAX_WINDOWS", 3)
    assert len(make_windows(35, CONFIG)) == 3
    with pytest.raises(InputTooLongError, match="got 36 tokens, which are 4 windows that move by"):
        make_windows(36, CONFIG)


# Texts that are classified


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
