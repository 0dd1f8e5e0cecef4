"""Tests of bert_rt.tasks.summarization: selection and windows."""

from __future__ import annotations

import numpy as np
import pytest

from bert_rt.errors import ConfigError
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.summarization.selection import choose_sentences
from bert_rt.tasks.summarization.windows import make_windows

SENTENCES = ["a b c d", "x y", "q A B C r", "m n o", "a b"]


@pytest.mark.parametrize(
    ("logits", "count", "blocking", "want"),
    [
        ([3, 1, 2, 0, -1], 2, False, [0, 2]),
        ([3, 1, 2, 0, -1], 2, True, [0, 1]),  # "a b c" is in both
        ([2, 1, 3, 0, -1], 3, True, [1, 2, 3]),
        ([0, 0, 0, 0, 0], 2, False, [0, 1]),
        ([0, 1, 2, 3, 4], 9, False, [0, 1, 2, 3, 4]),
        ([0, 1, 2, 3, 4], 9, True, [1, 2, 3, 4]),
    ],
)
def test_the_best_sentences(logits: list[int], count: int, blocking: bool, want: list[int]) -> None:
    got = choose_sentences(
        SENTENCES, np.array(logits, float), max_sentences=count, trigram_blocking=blocking
    )
    assert got == want


def windows_of(lengths: list[int], **limits: int) -> list:  # type: ignore[type-arg]
    config = SummaryConfig(
        **{"max_seq_length": 20, "doc_stride": 6, "max_sentence_length": 10, **limits}
    )
    rows = [np.full(length, 10 + index, np.int32) for index, length in enumerate(lengths)]
    return make_windows(rows, config, cls_id=2, sep_id=3)


def test_a_window_of_sentences() -> None:
    (window,) = windows_of([2, 1, 3])
    assert window.input_ids.tolist() == [2, 10, 10, 3, 2, 11, 3, 2, 12, 12, 12, 3]
    assert window.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    assert (window.places, window.first, window.is_best) == ((0, 4, 7), 0, (True,) * 3)
    assert window.token_spans == [(1, 3), (5, 6), (8, 11)]
    assert window.logit_range == (1, 11)


def test_windows_share_whole_sentences() -> None:
    windows = windows_of([4] * 7)  # of 6 tokens each, three a window, one shared
    assert [(w.first, len(w.places)) for w in windows] == [(0, 3), (2, 3), (4, 3)]
    best = [w.first + i for w in windows for i, is_best in enumerate(w.is_best) if is_best]
    assert sorted(best) == [*range(7)]


@pytest.mark.parametrize(("count", "read"), [(1, 3), (2, 5), (3, 7), (9, 7), (0, 7)])
def test_windows_behind_the_last_are_not_read(count: int, read: int) -> None:
    windows = windows_of([4] * 7, max_windows=count)
    assert len(windows) == (min(count, 3) or 3)
    best = [w.first + i for w in windows for i, is_best in enumerate(w.is_best) if is_best]
    assert sorted(best) == [*range(read)]


@pytest.mark.parametrize("lengths", [[30], [30, 1, 30, 1], [1] * 40, [18, 18, 18], [8, 1, 8, 1, 8]])
@pytest.mark.parametrize("stride", [0, 6, 18])
def test_every_sentence_is_best_once(lengths: list[int], stride: int) -> None:
    windows = windows_of(lengths, doc_stride=stride, max_sentence_length=18)
    best = [w.first + i for w in windows for i, is_best in enumerate(w.is_best) if is_best]
    assert sorted(best) == [*range(len(lengths))]
    assert all(w.num_tokens <= 20 for w in windows)
    for window in windows:
        assert (window.input_ids[list(window.places)] == 2).all()


def test_models_without_token_types() -> None:
    rows = [np.full(2, 9, np.int32)] * 3
    (window,) = make_windows(rows, SummaryConfig(), cls_id=2, sep_id=3, num_token_types=1)
    assert not window.token_type_ids.any()


@pytest.mark.parametrize(
    "values",
    [
        {"max_sentences": 0},
        {"max_seq_length": 7},
        {"doc_stride": 383},
        {"max_sentence_length": 383},
        {"max_sentence_length": 0},
        {"max_windows": -1},
    ],
)
def test_limits_that_are_none(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"SummaryConfig.{next(iter(values))}: got"):
        SummaryConfig(**values)
