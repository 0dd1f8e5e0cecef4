"""Tests of compile.int8.matching."""

from __future__ import annotations

import copy
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from compile.graph.linear import find_linear_layers
from compile.int8.matching import match_channels, match_rows
from compile.int8.pairs import count_broken_pairs, pair_excess
from compile.int8.search import quantize_weight
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny
from tests.unit.compile.graphs import normal


def cost(steps_KN: NDArray[np.float64], energy_K: NDArray[np.float64]) -> float:
    """Return what neighbours cost."""
    pairs = slice(0, len(steps_KN) // 2 * 2)
    excess_PN = pair_excess(steps_KN[pairs][::2] + steps_KN[pairs][1::2])
    less_P = np.minimum(energy_K[pairs][::2], energy_K[pairs][1::2])
    return float((np.square(excess_PN).sum(1) * less_P).sum())


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 8, 33, 64])
def test_an_order_of_all_rows(num_rows: int) -> None:
    steps_KN = normal(num_rows, 20, seed=1, scale=60.0).astype(np.float64)
    energy_K = np.square(normal(num_rows, 1, seed=2)[:, 0]).astype(np.float64)
    order_K = match_rows(steps_KN, energy_K)
    assert sorted(order_K) == list(range(num_rows))
    if num_rows % 2:
        assert order_K[-1] == num_rows - 1
    before, after = cost(steps_KN, energy_K), cost(steps_KN[order_K], energy_K[order_K])
    assert after <= before
    if num_rows >= 33:
        assert after < 0.7 * before


def test_large_rows_stand_beside_small_ones() -> None:
    sizes = np.array([120.0, 115.0, 110.0, 5.0, 6.0, 7.0])
    order_K = match_rows(np.ones((6, 4)) * sizes[:, None], np.ones(6))
    assert cost(sizes[order_K, None], np.ones(6)) == 0
    assert cost(sizes[:, None], np.ones(6)) > 0


@pytest.mark.parametrize("seed", range(8))
def test_near_the_best_order_of_few_rows(seed: int) -> None:
    steps_KN = normal(6, 3, seed=seed, scale=80.0).astype(np.float64)
    energy_K = np.ones(6)
    best = min(cost(steps_KN[list(order)], energy_K) for order in permutations(range(6)))
    got = match_rows(steps_KN, energy_K)
    worst = max(cost(steps_KN[list(order)], energy_K) for order in permutations(range(6)))
    # Exchanges find the best one nearly always; all seeds are within a tenth of the way.
    assert cost(steps_KN[got], energy_K) <= best + 0.1 * (worst - best)


def test_the_function_stays_and_pairs_suit_each_other() -> None:
    model, observers = tiny.fused(), copy.deepcopy(dict(tiny.observers()))
    match_channels(
        model, observers, num_heads=tiny.CONFIG.num_attention_heads, num_outliers=4, seed=0
    )
    feeds = tiny.make_feeds(3, 40)
    want = tiny.ort_logits(tiny.fused_bytes(), feeds)
    got = tiny.ort_logits(tiny.to_bytes(model), feeds)
    np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_ATOL)
    before = {layer.name: layer for layer in find_linear_layers(tiny.fused())}
    num_broken = [0, 0]
    for layer in find_linear_layers(model):
        old = before[layer.name]
        if not layer.name.endswith("output.dense"):
            continue
        # Rows have moved, and what was seen of them with them.
        assert not np.array_equal(layer.weight_KN, old.weight_KN)
        assert sorted(map(tuple, layer.weight_KN)) == sorted(map(tuple, old.weight_KN))
        place = {tuple(row): index for index, row in enumerate(old.weight_KN)}
        order_K = [place[tuple(row)] for row in layer.weight_KN]
        seen, old_seen = observers[layer.name], tiny.observers()[layer.name]
        np.testing.assert_array_equal(seen.rows_RK, old_seen.rows_RK[:, order_K])
        np.testing.assert_array_equal(seen.low_K, old_seen.low_K[order_K])
        np.testing.assert_array_equal(seen.high_K, old_seen.high_K[order_K])
        for index, weight_KN in enumerate((old.weight_KN, layer.weight_KN)):
            num_broken[index] += count_broken_pairs(quantize_weight(weight_KN)[0])
        if "attention" in layer.name:
            # Every channel stays in its head.
            head = tiny.CONFIG.hidden_size // tiny.CONFIG.num_attention_heads
            np.testing.assert_array_equal(
                np.array(order_K) // head, np.arange(tiny.CONFIG.hidden_size) // head
            )
    assert num_broken[1] < num_broken[0]
