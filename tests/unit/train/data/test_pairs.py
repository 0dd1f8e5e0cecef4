from __future__ import annotations

import math
import random
from dataclasses import astuple

import numpy as np
import pytest

from tests.support.data.corpora import make_corpus
from train.data.corpus import Corpus
from train.data.pairs import Pairs, assemble, make_pairs

_LENGTH = 64


def _random_corpus(num_documents: int = 60, seed: int = 1) -> Corpus:
    rng = random.Random(seed)
    return make_corpus(
        [[rng.randint(1, 20) for _ in range(rng.randint(1, 40))] for _ in range(num_documents)]
    )


def _all(corpus: Corpus) -> np.ndarray:
    return np.arange(corpus.report.num_documents)


def _make(corpus: Corpus, **arguments: float) -> Pairs:
    values = {"max_seq_length": _LENGTH, "seed": 7, "epoch": 0, **arguments}
    return make_pairs(corpus, _all(corpus), **values)  # type: ignore[arg-type]


def _document_of(corpus: Corpus, token: np.ndarray) -> np.ndarray:
    bounds = corpus.sentence_starts[corpus.document_starts]
    return np.searchsorted(bounds, token, side="right") - 1


def test_segments_lie_in_one_document_and_fit() -> None:
    corpus = _random_corpus()
    pairs = _make(corpus)
    assert pairs.lengths.max() == _LENGTH
    assert pairs.first_lengths.min() >= 1 and pairs.second_lengths.min() >= 1
    first = _document_of(corpus, pairs.first_starts)
    second = _document_of(corpus, pairs.second_starts)
    for starts, lengths, documents in (
        (pairs.first_starts, pairs.first_lengths, first),
        (pairs.second_starts, pairs.second_lengths, second),
    ):
        np.testing.assert_array_equal(_document_of(corpus, starts + lengths - 1), documents)
    np.testing.assert_array_equal(first != second, pairs.is_random)


def test_an_actual_next_segment_follows() -> None:
    # No pair is too long here, so nothing is cut off and B begins where A ends.
    corpus = make_corpus([[5] * 30] * 8)
    pairs = _make(corpus, short_seq_prob=0.0)
    whole = pairs.lengths < _LENGTH
    follows = pairs.first_starts + pairs.first_lengths == pairs.second_starts
    assert (~pairs.is_random & whole).any()
    np.testing.assert_array_equal(follows[whole], ~pairs.is_random[whole])


def test_every_token_is_in_some_first_segment_or_follows_one() -> None:
    # What a random B displaces is used again: nothing of a document is lost.
    corpus = make_corpus([[4] * 20] * 10)
    pairs = _make(corpus, max_seq_length=200, short_seq_prob=0.0)
    seen = np.zeros(corpus.report.num_tokens, np.bool_)
    for first, length, second, more, is_random in zip(*astuple(pairs), strict=True):
        seen[first : first + length] = True
        if not is_random:
            seen[second : second + more] = True
    assert seen.all()


def test_half_of_the_pairs_are_random() -> None:
    # Sentences of 3 tokens: a chunk of 61 has 21 and always a choice, except at the end of a
    # document, where a chunk of a single sentence is always random. Documents of 2,000
    # sentences have 200 pairs or so and at most one such.
    corpus = make_corpus([[3] * 2000] * 20)
    pairs = _make(corpus, short_seq_prob=0.0)
    count = len(pairs)
    sigma = math.sqrt(0.25 / count)
    assert count > 2000
    assert abs(pairs.is_random.mean() - 0.5) < 4 * sigma + 20 / count


def test_a_tenth_of_the_documents_is_cut_short() -> None:
    corpus = make_corpus([[1] * 300] * 1000)
    pairs = _make(corpus)
    documents = _document_of(corpus, pairs.first_starts)
    longest = np.zeros(1000, np.int64)
    np.maximum.at(longest, documents, pairs.lengths)
    # One of 60 lengths (2 to 61) is the full one.
    share = 0.1 * 59 / 60
    sigma = math.sqrt(share * (1 - share) / 1000)
    assert abs((longest < _LENGTH).mean() - share) < 4 * sigma
    assert (_make(corpus, short_seq_prob=0.0).lengths[:-1] == _LENGTH).mean() > 0.7


def test_random_documents_and_positions_are_uniform() -> None:
    corpus = make_corpus([[10] * 400] * 11)
    pairs = _make(corpus, short_seq_prob=0.0)
    starts = pairs.second_starts[pairs.is_random]
    counts = np.bincount(_document_of(corpus, starts), minlength=11)
    expected = len(starts) / 11
    # Chi-squared with 10 degrees of freedom: 29.6 is exceeded once in a thousand.
    assert ((counts - expected) ** 2 / expected).sum() < 29.6
    within = starts % 4000
    halves = np.count_nonzero(within < 2000)
    assert abs(halves - len(starts) / 2) < 4 * math.sqrt(len(starts) / 4)


def _truncated(first: int, second: int, limit: int) -> tuple[int, int]:
    """Shorten as the paper's code does, token after token."""
    while first + second > limit:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def test_truncation_is_that_of_the_papers_code() -> None:
    # Documents of two sentences: A is the first and B the second, or another document's.
    rng = random.Random(3)
    corpus = make_corpus([[rng.randint(1, 90), rng.randint(1, 90)] for _ in range(500)])
    pairs = _make(corpus, short_seq_prob=0.0)
    ends = corpus.sentence_starts
    num_cut = 0
    for first, length, second, more, is_random in zip(*astuple(pairs), strict=True):
        if is_random:
            continue
        sentence = int(np.searchsorted(ends, first, side="right")) - 1
        whole = (
            int(ends[sentence + 1] - ends[sentence]),
            int(ends[sentence + 2] - ends[sentence + 1]),
        )
        assert (length, more) == _truncated(*whole, _LENGTH - 3)
        assert ends[sentence + 1] <= second
        assert second + more <= ends[sentence + 2]
        num_cut += sum(whole) > _LENGTH - 3
    assert num_cut > 50


def test_tokens_go_from_both_ends_alike() -> None:
    corpus = make_corpus([[161, 161]] * 400)
    pairs = _make(corpus, short_seq_prob=0.0)
    cut = pairs.first_starts - np.array([0, 161])[(pairs.first_starts // 161) % 2]
    cut = cut % 322
    # A loses 161 - 30 = 131 tokens, half of them from the front.
    sigma = math.sqrt(131 * 0.25 / len(pairs))
    assert abs(cut.mean() - 65.5) < 4 * sigma


def test_an_epoch_is_a_pure_function_of_seed_and_number() -> None:
    corpus = _random_corpus()
    for again, is_same in (
        (_make(corpus), True),
        (_make(corpus, epoch=1), False),
        (_make(corpus, seed=8), False),
    ):
        same = [
            np.array_equal(a, b)
            for a, b in zip(astuple(_make(corpus)), astuple(again), strict=True)
        ]
        assert all(same) == is_same


def test_only_the_given_documents_are_used() -> None:
    corpus = _random_corpus()
    chosen = np.array([3, 17, 40])
    pairs = make_pairs(corpus, chosen, max_seq_length=_LENGTH, seed=0, epoch=0)
    used = np.concatenate((pairs.first_starts, pairs.second_starts))
    assert set(_document_of(corpus, used).tolist()) == set(chosen.tolist())


def test_a_single_document_is_refused() -> None:
    corpus = make_corpus([[5] * 10])
    with pytest.raises(ValueError, match="got 1 documents"):
        _make(corpus)


def test_assembled_rows() -> None:
    corpus = make_corpus([[100] * 3, [100] * 3])
    pairs = Pairs(
        first_starts=np.array([10, 20]),
        first_lengths=np.array([2, 3], np.int32),
        second_starts=np.array([300, 400]),
        second_lengths=np.array([1, 4], np.int32),
        is_random=np.array([True, False]),
    )
    batch = assemble(
        corpus, pairs, np.array([1, 0]), cls_id=901, sep_id=902, pad_id=903, multiple=4
    )
    np.testing.assert_array_equal(
        batch.input_ids,
        [
            [901, 20, 21, 22, 902, 400, 401, 402, 403, 902, 903, 903],
            [901, 10, 11, 902, 300, 902, 903, 903, 903, 903, 903, 903],
        ],
    )
    np.testing.assert_array_equal(
        batch.token_type_ids,
        [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(batch.attention_mask.sum(axis=1), [10, 6])
    np.testing.assert_array_equal(batch.attention_mask, batch.input_ids != 903)
    np.testing.assert_array_equal(batch.is_random, [False, True])
