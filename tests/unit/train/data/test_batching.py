from __future__ import annotations

import numpy as np
import pytest

from train.data.batching import EpochBatches, Padding, length_bucketed_batches


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


def test_rows_are_padded_to_the_longest() -> None:
    rows = [np.array([1, 2, 3], np.int32), np.array([4], np.int32)]
    assert Padding(8).rectangle(rows, 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert Padding(8, multiple=4).rectangle(rows, 9).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9]]


def test_no_row_is_padded_beyond_the_limit() -> None:
    rows = [np.ones(5, np.int32)]
    assert Padding(6, multiple=4).rectangle(rows, 0).shape == (1, 6)
