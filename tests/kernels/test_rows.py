"""The row kernels and attention: equal to scalar bit for bit, and close to the exact functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels.support import ISAS, Guarded, guarded, testing

# The largest error of GELU's quadratics, see isa/epilogues.h, and float32 rounding of values of 10.
GELU_ATOL = 1.1e-4
# kLowBits, kLowOffset and kLowPlaneShare of kernels.h.
LOW_BITS, LOW_OFFSET, LOW_PLANE_SHARE = 6, 32, 32
# INT8 attention against float: 8-bit queries, keys and values with their own scales; of random
# normal operands the context's relative error (root of mean squares) stays near 1 %.
ATTENTION_RELATIVE_ERROR = 0.02


def exact_gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    erf = np.vectorize(math.erf)
    return np.asarray(x * 0.5 * (1 + erf(x / math.sqrt(2))), np.float64)


@pytest.mark.parametrize("isa", ISAS)
def test_gelu(isa: str) -> None:
    x = np.linspace(-12, 12, 4096, dtype=np.float32).reshape(4, 1024)
    results = []
    for name in (isa, "scalar"):
        rows = guarded(x)
        testing.gelu_rows(name, rows.address, 1024, 4, 1024)
        rows.check()
        results.append(rows.array)
    assert np.array_equal(*results)
    np.testing.assert_allclose(results[0], exact_gelu(x.astype(np.float64)), atol=GELU_ATOL)


@pytest.mark.parametrize("isa", ISAS)
def test_gelu_at_its_joints_and_ends(isa: str) -> None:
    joints = np.arange(1, 32, 2, dtype=np.float32) / 8  # between the quarters; 3.875 is the end
    x = np.concatenate([joints, -joints, [0.0, -0.0, 1e30, -1e30, np.inf, -np.inf]])
    rows = guarded(np.concatenate([x, np.full(48 - len(x), np.nan)]).astype(np.float32)[None])
    testing.gelu_rows(isa, rows.address, 48, 1, 48)
    rows.check()
    got = rows.array[0]
    np.testing.assert_allclose(got[:32], exact_gelu(x[:32]), atol=GELU_ATOL)
    assert got[32:34].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(got[[34, 36]], [1e30, np.inf])
    np.testing.assert_allclose(got[[35, 37]], 0.0, atol=GELU_ATOL)
    assert np.isnan(got[38:]).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("d", [16, 48, 64, 128, 384, 768, 1024])
def test_layer_norm(isa: str, d: int) -> None:
    rng = np.random.default_rng(d)
    x = (rng.standard_normal((5, d)) * 3 + 1).astype(np.float32)
    gamma, beta, mult = (guarded(rng.random(d, np.float32) + 0.5) for _ in range(3))
    results = []
    for name in (isa, "scalar"):
        rows = guarded(x)
        codes = Guarded((5, d), np.uint8)
        testing.layer_norm_rows(
            name,
            rows.address,
            d,
            gamma.address,
            beta.address,
            1e-12,
            5,
            d,
            mult.address,
            100.0,
            codes.address,
            d,
        )
        rows.check()
        codes.check()
        results.append((rows.array, codes.array))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    y = x.astype(np.float64)
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-12)
    y = y * gamma.array + beta.array
    np.testing.assert_allclose(results[0][0], y, atol=2e-5)
    codes_exact = np.clip(np.round(y * mult.array) + 100, 0, 255)
    assert np.abs(results[0][1] - codes_exact).max() <= 1  # a tie may fall to either side


@pytest.mark.parametrize("isa", ISAS)
def test_quantize_rows_saturates_and_rounds_to_even(isa: str) -> None:
    x = guarded(np.array([[-1e9, -3, -0.5, 0, 0.5, 1.5, 2.5, 1e9] * 2], np.float32))
    mult = guarded(np.ones(16, np.float32))
    out = Guarded((1, 16), np.uint8, 1)
    testing.quantize_rows(isa, x.address, 16, 1, 16, mult.address, 2.0, out.address, 16)
    out.check()
    assert out.array[0, :8].tolist() == [0, 0, 2, 2, 2, 4, 4, 255]


@pytest.mark.parametrize("isa", ISAS)
def test_embed_row(isa: str) -> None:
    rng = np.random.default_rng(0)
    word = guarded(rng.integers(-127, 128, 96).astype(np.int8))
    kind, position = (guarded(rng.standard_normal(96, np.float32)) for _ in range(2))
    results = []
    for name in (isa, "scalar"):
        out = Guarded((96,), np.float32)
        testing.embed_row(
            name, word.address, 0, 0.01, kind.address, position.address, out.address, 96
        )
        out.check()
        results.append(out.array)
    assert np.array_equal(*results)
    exact = word.array * np.float32(0.01) + kind.array + position.array
    np.testing.assert_allclose(results[0], exact, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("s", [1, 2, 15, 16, 63, 64, 65, 100, 177, 512])
def test_softmax(isa: str, s: int) -> None:
    rng = np.random.default_rng(s)
    zeros_end, padded = -(-s // 32) * 32, -(-s // 64) * 64
    scores = np.full((5, padded), -(2**30), np.int32)
    scores[:3, :s] = rng.integers(-200_000, 200_000, (3, s))
    # Row 2: all equal. Rows 3 and 4: one token, and the others with a 400th of its weight each; or
    # with a 600th and a 440th in turn, which rounding to 8 bits moves to either side as far.
    unit = np.array([1e-5, 3e-5, 0.0, 1e-5, 1e-5], np.float32)  # natural units per step
    scores[3, :s] = -600_000
    scores[4, :s] = np.resize([-640_000, -609_000], s)
    scores[3:, s // 2] = 0
    steps = guarded(scores)
    scale = guarded((unit * np.float32(2048 / math.log(2))).astype(np.float32))
    results = []
    for name in (isa, "scalar"):
        high, low = Guarded((5, padded), np.uint8), Guarded((5, padded), np.uint8)
        total, low_row = Guarded((5,), np.int32), Guarded((5,), np.int32)
        num_low = testing.softmax_rows(
            name,
            steps.address,
            padded,
            scale.address,
            high.address,
            low.address,
            padded,
            total.address,
            low_row.address,
            5,
            s,
        )
        for out in (high, low, total, low_row):
            out.check()
        planes = (high.array[:, :zeros_end], low.array[:num_low, :zeros_end])
        results.append((*planes, total.array, low_row.array))
    for got, want in zip(*results, strict=True):
        assert np.array_equal(got, want)
    assert all((plane[:, s:] == 0).all() for plane in results[0][:2])
    weights = _joined_planes(s, *results[0])
    exact = np.exp(
        (scores[:, :s] - scores[:, :s].max(1, keepdims=True)) * unit[:, None].astype(float)
    )
    exact /= exact.sum(1, keepdims=True)
    got = weights[:, :s] / weights.sum(1, keepdims=True)
    assert np.abs(got - exact)[:3].max() < 0.008 * exact[:3].max()
    keeps_low = results[0][3] >= 0
    assert not keeps_low[2]
    assert (keeps_low[3:] == (s > 30)).all()
    # A row without its low plane has at most this share of its weights elsewhere.
    assert np.abs(got - exact).sum(1).max() < 2 / LOW_PLANE_SHARE
    assert np.abs(got - exact)[keeps_low].sum(1).max(initial=0.0) < 0.02


def _joined_planes(
    s: int,
    high: NDArray[np.uint8],
    low: NDArray[np.uint8],
    total: NDArray[np.int32],
    low_row: NDArray[np.int32],
) -> NDArray[np.int32]:
    """The weights as kept; `total` must be their sums, and `low_row` count the rows of `low`."""
    weights = high.astype(np.int32) << LOW_BITS
    kept = low_row >= 0
    assert low_row[kept].tolist() == list(range(len(low)))
    weights[kept, :s] += low[:, :s].astype(np.int32) - LOW_OFFSET
    assert np.array_equal(weights.sum(1), total)
    assert (low < 1 << LOW_BITS).all()
    return weights


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("s", "h"), [(1, 16), (7, 32), (33, 32), (64, 64), (100, 64), (50, 96)])
def test_attention(isa: str, s: int, h: int) -> None:
    rng = np.random.default_rng(s + h)
    q, k, v = (rng.standard_normal((s, h)).astype(np.float32) for _ in range(3))
    panels = [
        guarded(np.ascontiguousarray(x.reshape(s, h // 16, 16).transpose(1, 0, 2)))
        for x in (q, k, v)
    ]
    scale = float(h**-0.5)
    mult = guarded(np.full(h, 60, np.float32))
    results = []
    for name in (isa, "scalar"):
        scratch = Guarded((testing.attention_scratch_bytes(s, h),), np.uint8)
        out, codes = Guarded((s, h), np.float32), Guarded((s, h), np.uint8)
        for target in ("f32", "u8"):
            testing.attention_head(
                name,
                *(p.address for p in panels),
                s * 16,
                s,
                s,
                h,
                scale,
                mult.address if target == "u8" else 0,
                128.0,
                codes.address if target == "u8" else 0,
                out.address if target == "f32" else 0,
                h,
                scratch.address,
                1,
            )
        for guard in (scratch, out, codes):
            guard.check()
        results.append((out.array, codes.array))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])
    scores = q.astype(np.float64) @ k.T * scale
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = weights / weights.sum(1, keepdims=True) @ v
    error = np.sqrt(((results[0][0] - exact) ** 2).mean() / (exact**2).mean())
    assert error < ATTENTION_RELATIVE_ERROR
    assert np.abs(results[0][1] - np.clip(np.round(exact * 60) + 128, 0, 255)).mean() < 1.0


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("first", "m"), [(0, 1), (0, 50), (3, 1), (7, 33), (16, 34), (49, 1)])
def test_attention_of_some_queries(isa: str, first: int, m: int) -> None:
    s, h = 50, 32
    panels = guarded(
        np.random.default_rng(m).standard_normal((3, h // 16, s, 16)).astype(np.float32)
    )
    part = 4 * s * h
    results = []
    for row, num_rows in ((0, s), (first, m)):
        scratch = Guarded((testing.attention_scratch_bytes(s, h),), np.uint8)
        out = Guarded((num_rows, h), np.float32)
        testing.attention_head(
            isa,
            panels.address + 64 * row,
            panels.address + part,
            panels.address + 2 * part,
            s * 16,
            num_rows,
            s,
            h,
            0.2,
            0,
            0.0,
            0,
            out.address,
            h,
            scratch.address,
            1,
        )
        scratch.check()
        out.check()
        results.append(out.array)
    assert np.array_equal(results[1], results[0][first : first + m])


@pytest.mark.parametrize("isa", ISAS)
def test_attention_of_zeros_is_uniform(isa: str) -> None:
    zero, ones = guarded(np.zeros((1, 9, 16), np.float32)), guarded(np.ones((1, 9, 16), np.float32))
    scratch = Guarded((testing.attention_scratch_bytes(9, 16),), np.uint8)
    out = Guarded((9, 16), np.float32)
    testing.attention_head(
        isa,
        zero.address,
        zero.address,
        ones.address,
        144,
        9,
        9,
        16,
        0.25,
        0,
        0.0,
        0,
        out.address,
        16,
        scratch.address,
        1,
    )
    np.testing.assert_allclose(out.array, 1.0, rtol=1e-5)
