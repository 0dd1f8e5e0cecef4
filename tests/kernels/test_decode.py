"""What a decoder computes a token at a time: equal to scalar bit for bit, close to floats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels.support import ISAS, Guarded, guarded, testing
from tests.kernels.test_rows import ATTENTION_RELATIVE_ERROR

# Keys and values of 8 bits; queries, scores and sums are floats.
CACHED_ATTENTION_RELATIVE_ERROR = 0.015
# 2^x by a polynomial: 2e-7, and as much for the rounding of sums.
EXP_SUM_RTOL = 1e-6


def _panels(x: NDArray[np.float32]) -> Guarded:
    tokens, h = x.shape
    return guarded(np.ascontiguousarray(x.reshape(tokens, h // 16, 16).transpose(1, 0, 2)))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("m", "s", "h"), [(1, 1, 16), (4, 2, 32), (1, 40, 48), (5, 33, 64), (70, 20, 32), (3, 64, 96)]
)
def test_attend_to_packed_keys(isa: str, m: int, s: int, h: int) -> None:
    """Queries in any number, more or fewer than keys."""
    rng = np.random.default_rng(m + s + h)
    q = rng.standard_normal((m, h)).astype(np.float32)
    k, v = rng.standard_normal((2, s, h)).astype(np.float32)
    queries, keys, values = (_panels(x) for x in (q, k, v))
    results = []
    for name in (isa, "scalar"):
        packed = Guarded((testing.packed_head_bytes(s, h),), np.uint8)
        scratch = Guarded((testing.attend_scratch_bytes(s, h),), np.uint8)
        out = Guarded((m, h), np.float32)
        testing.pack_head(name, keys.address, values.address, s * 16, s, h, packed.address)
        args = (m * 16, m, s, h, h**-0.5, packed.address)
        testing.attend(name, queries.address, *args, out.address, h, scratch.address)
        alone = Guarded((m, h), np.float32)
        for row in range(m):
            place = (queries.address + 64 * row, m * 16, 1, s, h, h**-0.5, packed.address)
            testing.attend(name, *place, alone.address + 4 * h * row, h, scratch.address)
        for guard in (packed, scratch, out, alone):
            guard.check()
        assert np.array_equal(out.array, alone.array)
        results.append(out.array)
    assert np.array_equal(*results)
    assert _relative_error(results[0], _exact(q, k, v)) < ATTENTION_RELATIVE_ERROR


def _exact(
    q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.float64]:
    scores = q.astype(np.float64) @ k.T * q.shape[1] ** -0.5
    weights = np.exp(scores - scores.max(1, keepdims=True))
    out: NDArray[np.float64] = weights / weights.sum(1, keepdims=True) @ v
    return out


def _relative_error(got: NDArray[np.float32], exact: NDArray[np.float64]) -> float:
    return float(np.sqrt(((got - exact) ** 2).mean() / (exact**2).mean()))


class Cells:
    """The cells of some tokens, in any order, as one instruction set writes them."""

    def __init__(self, isa: str, k: NDArray[np.float32], v: NDArray[np.float32]) -> None:
        num_tokens, num_heads, h = k.shape
        width = num_heads * h
        scales = 64 + 2 * width
        self.layout = [64, 64 + width, scales, scales + 4 * num_heads]
        size = 64 * math.ceil((self.layout[3] + 4 * num_heads) / 64)
        self.memory = Guarded((num_tokens, size), np.uint8)
        order = np.random.default_rng(0).permutation(num_tokens)
        self.addresses = [self.memory.address + size * int(place) for place in order]
        for t, address in enumerate(self.addresses):
            keys, values = guarded(k[t]), guarded(v[t])
            args = (num_heads, h, self.layout, address)
            testing.store_cell(isa, keys.address, values.address, *args)
        self.memory.check()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("s", "num_heads", "h"), [(1, 1, 16), (7, 3, 32), (33, 12, 48), (64, 2, 64), (130, 40, 16)]
)
def test_cached_attention(isa: str, s: int, num_heads: int, h: int) -> None:
    rng = np.random.default_rng(s + h)
    q = rng.standard_normal((num_heads, h)).astype(np.float32)
    k, v = rng.standard_normal((2, s, num_heads, h)).astype(np.float32)
    if num_heads > 1:
        k[:, -1] *= 20  # one head of other scales changes no other head
    queries, mult = guarded(q), guarded(np.full(num_heads * h, 50, np.float32))
    results = []
    for name in (isa, "scalar"):
        cells = Cells(name, k, v)
        scratch = Guarded((testing.cached_attention_scratch_bytes(s),), np.uint8)
        out, codes = Guarded(q.shape, np.float32), Guarded(q.shape, np.uint8)
        for target in ((0, 0.0, 0, out.address), (mult.address, 128.0, codes.address, 0)):
            args = (cells.addresses, num_heads, h, h**-0.5, cells.layout)
            testing.cached_attention(name, queries.address, *args, *target, scratch.address, 1)
        for guard in (scratch, out, codes):
            guard.check()
        results.append((cells.memory.array, out.array, codes.array))
    for got, want in zip(*results, strict=True):
        assert np.array_equal(got, want)
    exact = np.concatenate([_exact(q[n : n + 1], k[:, n], v[:, n]) for n in range(num_heads)])
    usual = slice(0, max(num_heads - 1, 1))
    error = _relative_error(results[0][1][usual], exact[usual])
    assert error < CACHED_ATTENTION_RELATIVE_ERROR
    codes_exact = np.clip(np.round(exact * 50) + 128, 0, 255)
    assert np.abs(results[0][2] - codes_exact)[usual].mean() < 1.0


@pytest.mark.parametrize("isa", ISAS)
def test_cells_of_earlier_tokens_stay(isa: str) -> None:
    """A later token, however large, changes neither cells nor the results of earlier ones."""
    k, v = np.random.default_rng(3).standard_normal((2, 9, 2, 32)).astype(np.float32)
    before = Cells(isa, k[:8], v[:8])
    k[8], v[8] = 1e4, -1e4
    after = Cells(isa, k, v)
    for old, new in zip(before.addresses, after.addresses[:8], strict=True):
        size = before.memory.array.shape[1]
        start, other = old - before.memory.address, new - after.memory.address
        got = after.memory.array.reshape(-1)[other : other + size]
        assert np.array_equal(got, before.memory.array.reshape(-1)[start : start + size])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [16, 48, 64, 80, 1008, 8192])
def test_sum_of_scores(isa: str, n: int) -> None:
    rng = np.random.default_rng(n)
    x = (rng.standard_normal(n) * 8).astype(np.float32)
    x[n // 2] = -1e30  # as a column that is padding
    scores = guarded(x)
    num_blocks = -(-n // testing.score_block)
    results = []
    for name in (isa, "scalar"):
        largest = Guarded((num_blocks,), np.float32)
        maximum, total = testing.sum_scores(name, scores.address, n, largest.address)
        largest.check()
        results.append((maximum, total, largest.array.tolist()))
    assert results[0] == results[1]
    maximum, total, blocks = results[0]
    assert maximum == x.max()
    np.testing.assert_allclose(total, np.exp(x.astype(np.float64) - x.max()).sum(), EXP_SUM_RTOL)
    assert blocks == [float(x[i : i + 64].max()) for i in range(0, n, 64)]
