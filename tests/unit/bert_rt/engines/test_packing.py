"""Unit tests of bert_rt.engines.packing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bert_rt.engines.packing import pack, pad, plan_batches, unpack, unpad
from bert_rt.errors import InputTooLongError
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.types import Feature, TokenSequence
from tests.support.data.text import make_windows


def windows(*num_tokens: int) -> list[Feature]:
    """Make one window for each number of context tokens; 5 tokens come on top."""
    config = AnsweringConfig(max_query_length=2)
    return [make_windows(count, config)[0] for count in num_tokens]


def test_pack_puts_sequences_one_behind_the_other() -> None:
    batch = pack(windows(1, 3, 2), max_tokens=21)
    assert batch.cu_seqlens.tolist() == [0, 6, 14, 21]
    assert batch.max_seqlen == 8
    assert (batch.num_sequences, batch.num_tokens) == (3, 21)
    assert batch.input_ids.tolist()[:8] == [2, 1000, 1001, 3, 1000, 3, 2, 1000]
    assert batch.token_type_ids.tolist()[:8] == [0, 0, 0, 0, 1, 1, 0, 0]
    assert {batch.input_ids.dtype, batch.token_type_ids.dtype, batch.cu_seqlens.dtype} == {
        np.dtype(np.int32)
    }


def test_pack_keeps_its_budget() -> None:
    with pytest.raises(InputTooLongError, match=r"got 21 tokens .* the longest of 8, .* = 20"):
        pack(windows(1, 3, 2), max_tokens=20)


def test_pack_says_which_logits_are_read_where_that_is_asked_for() -> None:
    assert pack(windows(1, 3), max_tokens=21).logit_ranges is None
    ranges = pack(windows(1, 3), max_tokens=21, is_all_read=False).logit_ranges
    assert ranges is not None
    assert ranges.dtype == np.int32
    assert ranges.tolist() == [[4, 5], [4, 7]]
    texts = [TokenSequence(item.input_ids, item.token_type_ids) for item in windows(1, 3)]
    assert pack(texts, max_tokens=21, is_all_read=False).logit_ranges is None
    mixed = [texts[0], *windows(3)]
    ranges = pack(mixed, max_tokens=21, is_all_read=False).logit_ranges
    assert ranges is not None
    assert ranges.tolist() == [[0, 6], [4, 7]]


def test_pack_of_one_window_is_a_copy() -> None:
    (window,) = windows(3)
    batch = pack([window], max_tokens=8)
    assert not np.shares_memory(batch.input_ids, window.input_ids)


def test_unpack_gives_views_per_sequence() -> None:
    values = np.arange(14.0)
    parts = unpack(values, np.array([0, 6, 14], np.int32))
    assert [part.tolist() for part in parts] == [list(range(6)), list(range(6, 14))]
    assert all(np.shares_memory(part, values) for part in parts)


def test_pad_fills_rows_up() -> None:
    batch = pack(windows(1, 3), max_tokens=100)
    input_ids, attention_mask, token_type_ids = pad(batch, 9)
    assert input_ids.tolist() == [
        [2, 1000, 1001, 3, 1000, 3, 9, 9],
        [2, 1000, 1001, 3, 1000, 1001, 1002, 3],
    ]
    assert attention_mask.tolist() == [[1, 1, 1, 1, 1, 1, 0, 0], [1] * 8]
    assert token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]]
    assert {input_ids.dtype, attention_mask.dtype, token_type_ids.dtype} == {np.dtype(np.int64)}


def test_unpad_drops_the_padding_of_any_dtype() -> None:
    cu_seqlens = np.array([0, 1, 4], np.int32)
    values = np.array([[0.5, -1, -1], [1.5, 2.5, 3.5]], np.float32)
    flat = unpad(values, cu_seqlens)
    assert flat.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert flat.dtype == np.float32


def padded(batch: list[int], lengths: Sequence[int]) -> int:
    """Tokens of a batch, padding included."""
    return len(batch) * max(lengths[index] for index in batch)


def test_packed_batches_keep_the_order_and_count_the_sum() -> None:
    plan = plan_batches([4, 2, 5, 1, 9, 1], max_tokens=10, is_packed=True)
    assert plan == [[0, 1], [2, 3], [4, 5]]


def test_padded_batches_are_of_like_lengths_and_count_the_padding() -> None:
    lengths = [4, 2, 5, 1, 9, 1, 5]
    plan = plan_batches(lengths, max_tokens=10, is_packed=False)
    assert plan == [[4], [2, 6], [0, 1], [3, 5]]
    assert all(padded(batch, lengths) <= 10 for batch in plan)


@pytest.mark.parametrize("is_packed", [True, False])
def test_max_sequences_limits_a_batch(is_packed: bool) -> None:
    plan = plan_batches([1] * 7, max_tokens=100, is_packed=is_packed, max_sequences=3)
    assert plan == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("is_packed", [True, False])
def test_plan_of_random_lengths(is_packed: bool) -> None:
    lengths = np.random.default_rng(0).integers(1, 385, size=300).tolist()
    plan = plan_batches(lengths, max_tokens=2048, is_packed=is_packed)
    assert sorted(index for batch in plan for index in batch) == list(range(300))
    cost = [
        sum(lengths[i] for i in batch) if is_packed else padded(batch, lengths) for batch in plan
    ]
    assert max(cost) <= 2048
    # A good plan is close to the least number of batches that the budget allows.
    assert len(plan) <= 1.2 * sum(lengths) / 2048 + 1
    assert plan == plan_batches(lengths, max_tokens=2048, is_packed=is_packed)


def test_a_sequence_longer_than_the_budget_is_refused() -> None:
    with pytest.raises(InputTooLongError, match=r"lengths\[1\]: got 11 tokens, want at most .* 10"):
        plan_batches([3, 11], max_tokens=10, is_packed=True)


def test_no_sequences_make_no_batches() -> None:
    assert plan_batches([], max_tokens=10, is_packed=False) == []
