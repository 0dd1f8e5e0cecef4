from __future__ import annotations

import math

import numpy as np
import pytest

from tests.support.data.text import VOCAB
from train.data.masking import Masking, make_masking, mask_batch, max_predictions

_IDS = {token: index for index, token in enumerate(VOCAB)}
_PAD, _UNK, _CLS, _SEP, _MASK = range(5)
_TOKENS = make_masking(_IDS)
_WORDS = make_masking(_IDS, whole_words=True)


def _batch(num_rows: int, length: int, *, seed: int = 0) -> np.ndarray:
    """Make rows [CLS] tokens [SEP] tokens [SEP] padding, of several lengths."""
    rng = np.random.default_rng(seed)
    rows = np.full((num_rows, length), _PAD, np.int64)
    for row in rows:
        end = int(rng.integers(5, length + 1))
        row[:end] = rng.integers(5, len(VOCAB), end)
        row[0], row[int(rng.integers(2, end - 2))], row[end - 1] = _CLS, _SEP, _SEP
    return rows


def _mask(ids: np.ndarray, masking: Masking, **arguments: int) -> tuple[np.ndarray, ...]:
    values = {"max_predictions": 20, "seed": 3, "index": 0, **arguments}
    batch = mask_batch(ids, masking, **values)
    return batch.input_ids, batch.positions, batch.labels


@pytest.mark.parametrize("masking", [_TOKENS, _WORDS], ids=["tokens", "words"])
def test_labels_are_what_was_there_and_nothing_else_changes(masking: Masking) -> None:
    ids = _batch(64, 128)
    before = ids.copy()
    hidden, positions, labels = _mask(ids, masking)
    np.testing.assert_array_equal(ids, before)
    np.testing.assert_array_equal(labels, ids.ravel()[positions])
    assert (np.diff(positions) > 0).all()
    restored = hidden.copy()
    restored.ravel()[positions] = labels
    np.testing.assert_array_equal(restored, ids)
    assert not np.isin(labels, (_PAD, _CLS, _SEP, _MASK)).any()


def test_the_number_is_the_papers() -> None:
    ids = _batch(200, 160)
    _, positions, _ = _mask(ids, _TOKENS)
    counts = np.bincount(positions // 160, minlength=200)
    lengths = (ids != _PAD).sum(axis=1).tolist()
    wanted = [min(20, max(1, round(length * 0.15)), length - 3) for length in lengths]
    assert counts.tolist() == wanted
    assert 20 in wanted and 1 in wanted


@pytest.mark.parametrize(("max_seq_length", "wanted"), [(128, 20), (512, 77), (64, 10)])
def test_max_predictions(max_seq_length: int, wanted: int) -> None:
    assert max_predictions(max_seq_length) == wanted


def test_80_10_10() -> None:
    ids = _batch(2000, 128)
    hidden, positions, labels = _mask(ids, _TOKENS)
    shown = hidden.ravel()[positions]
    count = len(labels)
    assert count > 10_000
    # A replacement is the token itself once in so many.
    replaced = 0.1 * (1 - 1 / len(_TOKENS.replacements))
    for seen, share in (
        ((shown == _MASK).mean(), 0.8),
        (((shown != _MASK) & (shown != labels)).mean(), replaced),
        ((shown == labels).mean(), 0.2 - replaced),
    ):
        assert abs(seen - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_replacements_are_uniform_and_never_special() -> None:
    ids = _batch(3000, 128)
    hidden, positions, labels = _mask(ids, _TOKENS)
    shown = hidden.ravel()[positions]
    replacements = shown[(shown != _MASK) & (shown != labels)]
    counts = np.bincount(replacements, minlength=len(VOCAB))
    assert counts[:5].sum() == 0
    expected = len(replacements) / (len(VOCAB) - 5)
    statistic = ((counts[5:] - expected) ** 2 / expected).sum()
    # Chi-squared with k degrees of freedom has mean k and deviation sqrt(2 k).
    freedom = len(VOCAB) - 6
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


def test_positions_are_uniform() -> None:
    ids = np.full((4000, 23), _IDS["cat"], np.int64)
    ids[:, 0], ids[:, 12], ids[:, 22] = _CLS, _SEP, _SEP
    _, positions, _ = _mask(ids, _TOKENS)
    counts = np.delete(np.bincount(positions % 23, minlength=23), [0, 12, 22])
    # round(0.15 * 23) = 3 of 20 candidates.
    expected = 4000 * 3 / 20
    assert counts.sum() == 4000 * 3
    statistic = ((counts - expected) ** 2 / expected).sum()
    # Chi-squared with 19 degrees of freedom: 43.8 is exceeded once in a thousand.
    assert statistic < 43.8


def test_a_batch_is_a_pure_function_of_ids_seed_and_index() -> None:
    ids = _batch(16, 64)
    first = _mask(ids, _TOKENS)
    for again, is_same in (
        (_mask(ids, _TOKENS), True),
        (_mask(ids, _TOKENS, index=1), False),
        (_mask(ids, _TOKENS, seed=4), False),
    ):
        assert np.array_equal(first[1], again[1]) == is_same


def _words_of(row: np.ndarray) -> list[list[int]]:
    """Return the positions of each word, read token by token."""
    words: list[list[int]] = []
    is_open = False
    for position, token_id in enumerate(row.tolist()):
        if token_id in (_PAD, _CLS, _SEP):
            is_open = False
        elif is_open and VOCAB[token_id].startswith("##"):
            words[-1].append(position)
        else:
            words.append([position])
            is_open = True
    return words


def test_whole_words_are_chosen_together_within_the_quota() -> None:
    ids = _batch(300, 128, seed=5)
    _, positions, _ = _mask(ids, _WORDS)
    chosen = np.zeros(ids.size, np.bool_)
    chosen[positions] = True
    num_long = 0
    for row, is_chosen in zip(ids, chosen.reshape(ids.shape), strict=True):
        words = _words_of(row)
        quota = min(20, max(1, round(0.15 * int((row != _PAD).sum()))))
        assert 1 <= is_chosen.sum() <= quota
        sizes = [len(word) for word in words if is_chosen[word].all()]
        parts = [word for word in words if is_chosen[word].any() and not is_chosen[word].all()]
        # A part of a word only where no whole word fits.
        assert not parts or (min(map(len, words)) > quota and not sizes)
        # What was passed over does not fit.
        left = quota - int(is_chosen.sum())
        assert all(len(word) > left for word in words if not is_chosen[word].any())
        num_long += sum(size > 1 for size in sizes)
    assert num_long > 100


def test_a_word_longer_than_the_quota_is_chosen_in_part() -> None:
    row = [_CLS, _IDS["un"], *[_IDS["##a"]] * 6, _SEP, *[_IDS["##b"]] * 7, _SEP]
    _, positions, labels = _mask(np.array([row]), _WORDS)
    # round(0.15 * 17) = 3 (2.55), and both words have seven tokens.
    assert len(labels) == 3
    assert positions.tolist() in ([1, 2, 3], [9, 10, 11])


def test_unknown_words_may_be_chosen_and_empty_ids_are_not_drawn() -> None:
    masking = make_masking({**_IDS, "last": 200})
    ids = np.array([[_CLS, _UNK, _SEP, _UNK, _SEP]])
    _, _, labels = _mask(ids, masking)
    assert labels.tolist() == [_UNK]
    assert set(masking.replacements.tolist()) == {*range(5, len(VOCAB)), 200}
