from __future__ import annotations

import numpy as np
import pytest

from train.data.batching import EpochBatches, Padding, TokenBatches, length_bucketed_batches


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (7, 8), (8, 8), (9, 8), (5000, 16)])
def test_every_example_is_in_one_batch(count: int, batch_size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 400, count)
    batches = length_bucketed_batches(lengths, batch_size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_little_is_padded() -> None:
    # Lengths as in SQuAD: a mean of 176, some as long as a window.
    lengths = np.random.default_rng(0).gamma(6.0, 29.0, 20_000).astype(int).clip(20, 384)
    batches = length_bucketed_batches(lengths, 32, seed=0, epoch=0)
    positions = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert 1 - lengths.sum() / positions < 0.03


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lengths = np.arange(200) % 50 + 1

    def order(seed: int, epoch: int) -> list[int]:
        batches = length_bucketed_batches(lengths, 8, seed=seed, epoch=epoch)
        return [int(i) for batch in batches for i in batch]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_batches_of_a_run_by_index_in_any_order() -> None:
    lengths = np.arange(100) % 30 + 1
    batches = EpochBatches(lengths, 8, seed=3)
    there = [batches[index].tolist() for index in range(2 * batches.num_batches)]
    back = [batches[index].tolist() for index in reversed(range(2 * batches.num_batches))]
    assert there == back[::-1]
    assert sorted(i for batch in there[: batches.num_batches] for i in batch) == list(range(100))


def test_examples_of_a_group_stand_together() -> None:
    groups = np.random.default_rng(0).integers(0, 400, 2000)
    lengths = 20 + groups % 37
    seen = []
    for epoch in (0, 1):
        batches = length_bucketed_batches(lengths, 16, seed=1, epoch=epoch, groups=groups)
        assert sorted(np.concatenate(batches).tolist()) == list(range(2000))
        # A batch of 16 has three groups of five, and parts of those that its ends divide.
        assert np.mean([len(set(groups[batch].tolist())) for batch in batches]) < 5
        seen.append(np.concatenate(batches).tolist())
    assert seen[0] != seen[1]


def test_rows_are_padded_to_the_longest() -> None:
    rows = [np.array([1, 2, 3], np.int32), np.array([4], np.int32)]
    assert Padding(8).rectangle(rows, 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert Padding(8, multiple=4).rectangle(rows, 9).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]


def test_no_row_is_padded_beyond_the_limit() -> None:
    rows = [np.ones(5, np.int32)]
    assert Padding(6, multiple=4).rectangle(rows, 0).shape == (1, 6)


def some_pairs(count: int = 5000) -> np.ndarray:
    rng = np.random.default_rng(1)
    source = rng.integers(3, 40, count)
    return np.stack([source, (source + rng.integers(-2, 6, count)).clip(2)], axis=1)


def test_batches_of_tokens_hold_every_pair_once_an_epoch() -> None:
    lengths = some_pairs()
    batches = TokenBatches(lengths, max_tokens=1000, max_examples=60, seed=0)
    for epoch in range(3):
        first = epoch * batches.num_batches
        rows = [batches[first + index] for index in range(batches.num_batches)]
        assert sorted(np.concatenate(rows).tolist()) == list(range(len(lengths)))
        assert max(lengths[row].sum() for row in rows) <= 1000
        assert max(map(len, rows)) == 60
        # Few are much smaller than they may be, and little is padded.
        assert np.mean([lengths[row].sum() for row in rows]) > 850
        positions = sum(len(row) * lengths[row].max(axis=0).sum() for row in rows)
        assert 1 - lengths.sum() / positions < 0.03


def test_batches_of_tokens_by_index_in_any_order() -> None:
    lengths = some_pairs(600)

    def rows(seed: int, indices: list[int]) -> list[list[int]]:
        batches = TokenBatches(lengths, max_tokens=500, max_examples=100, seed=seed)
        assert batches.num_batches > 40
        return [batches[index].tolist() for index in indices]

    indices = list(range(90))
    assert rows(3, indices) == rows(3, indices[::-1])[::-1]
    assert rows(3, indices) != rows(4, indices)
    assert rows(3, indices[:40]) != rows(3, indices[45:85])


def test_a_pair_beyond_the_budget_is_a_batch_alone() -> None:
    lengths = [(5, 5), (300, 200), (6, 5), (4, 4)]
    batches = TokenBatches(lengths, max_tokens=20, max_examples=100, seed=0)
    assert sorted(sorted(batches[index].tolist()) for index in range(3)) == [[0, 3], [1], [2]]
