"""Unit tests of bert_rt.tasks.question_answering.features."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tokenizers

from bert_rt.errors import ConfigError, EmptyInputError, InputTooLongError
from bert_rt.model.config import BertConfig
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import (
    MAX_QUESTION_CHARS,
    check_question,
    check_split_windows,
    make_features,
)
from bert_rt.tasks.texts import MAX_TEXT_CHARS
from bert_rt.text import windows as windows_module
from bert_rt.text.tokenization import Tokenizer
from tests.support.data.text import make_encoding, make_windows

# With a question of 2 tokens a window has room for 20 - 2 - 3 = 15 context tokens and moves by 10.
CONFIG = AnsweringConfig(max_seq_length=20, max_query_length=4, doc_stride=5)


def test_check_question_names_the_field_and_its_limit() -> None:
    check_question("who?", "the cat")
    check_question("q" * MAX_QUESTION_CHARS, "the cat")
    with pytest.raises(InputTooLongError, match=f"question: .* at most {MAX_QUESTION_CHARS}"):
        check_question("q" * (MAX_QUESTION_CHARS + 1), "the cat")
    with pytest.raises(InputTooLongError, match=f"context: .* at most {MAX_TEXT_CHARS}"):
        check_question("who?", "c" * (MAX_TEXT_CHARS + 1))
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


@pytest.mark.parametrize("num_query", [1, 2, 9])
def test_with_split_layers_windows_do_not_depend_on_the_question(num_query: int) -> None:
    windows = make_features(
        0,
        make_encoding(num_query),
        make_encoding(16),
        config=CONFIG,
        cls_id=2,
        sep_id=3,
        is_split=True,
    )
    # Room for 20 - 4 - 3 = 13 context tokens, moved by 8.
    assert [(w.context_start, w.context_length) for w in windows] == [(0, 13), (8, 8)]


def test_windows_must_fit_the_positions_of_split_layers() -> None:
    split = BertConfig(max_position_embeddings=24, num_split_layers=1, passage_position_offset=6)
    check_split_windows(CONFIG, split)
    check_split_windows(replace(CONFIG, max_seq_length=24), split)
    check_split_windows(replace(CONFIG, max_seq_length=512), BertConfig())
    with pytest.raises(ConfigError, match="max_seq_length: got 25, want at most 24 with max_query"):
        check_split_windows(replace(CONFIG, max_seq_length=25), split)
    with pytest.raises(ConfigError, match="max_query_length: got 5, want at most 4: the model has"):
        check_split_windows(replace(CONFIG, max_query_length=5), split)


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
    monkeypatch.setattr(windows_module, "MAX_WINDOWS", 3)
    assert len(make_windows(35, CONFIG)) == 3
    with pytest.raises(InputTooLongError, match="got 36 tokens, which are 4 windows that move by"):
        make_windows(36, CONFIG)
