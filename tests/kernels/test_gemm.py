"""The INT8 GEMMs of every instruction set: exact integers, and epilogues equal to scalar's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.support import ISAS, GemmCase, Guarded, guarded, testing

# 1, around every register tile (4, 6, 16, 32 rows), primes.
ROWS = (1, 2, 3, 4, 5, 6, 7, 13, 15, 16, 17, 31, 32, 33, 47, 64, 97)
SHAPES = [(m, 64, 64) for m in ROWS] + [
    (7, 16, 4),
    (7, 32, 12),
    (33, 48, 32),
    (40, 80, 60),
    (40, 112, 128),
    (19, 16, 192),
    (49, 96, 320),
    (33, 1152, 384),
    (33, 384, 1536),
    (20, 3072, 768),
]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_s32_is_exact(isa: str, m: int, n: int, k: int) -> None:
    case = GemmCase(m, n, k)
    out = Guarded((m, n), np.int32)
    testing.gemm_s32(isa, case.args, out.address, n, 1)
    out.check()
    assert np.array_equal(out.array, case.exact)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("k", [4, 32, 64, 128, 3072])
def test_extreme_values_do_not_saturate(isa: str, k: int) -> None:
    case = GemmCase(35, 64, k, fill="extreme")
    out = Guarded((35, 64), np.int32)
    testing.gemm_s32(isa, case.args, out.address, 64, 1)
    assert np.array_equal(out.array, case.exact)
    assert out.array.min() <= -255 * 128 * k + 1000


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("offset", [1, 3, 4, 37])
def test_unaligned_operands(isa: str, offset: int) -> None:
    case = GemmCase(37, 80, 128, offset=offset)
    out = Guarded((37, 80), np.int32, 4)
    testing.gemm_s32(isa, case.args, out.address, 80, 1)
    out.check()
    assert np.array_equal(out.array, case.exact)


@pytest.mark.parametrize("isa", ISAS)
def test_no_rows_are_no_work(isa: str) -> None:
    """A thread of a team that has nothing to do: more threads than register tiles of rows."""
    case = GemmCase(1, 80, 128)
    args = {**case.args, "m": 0}
    scale, bias, mult = case.scale.address, case.bias.address, case.mult.address
    out, codes = Guarded((1, 80), np.float32), Guarded((1, 80), np.uint8)
    testing.gemm_s32(isa, args, out.address, 80, 1)
    testing.gemm_dequantize_panels(isa, args, scale, bias, out.address, 16, 1)
    testing.gemm_dequantize_residual(isa, args, scale, bias, 0, out.address, 80, 1)
    testing.gemm_dequantize_gelu_quantize(isa, args, scale, bias, mult, 7.0, codes.address, 80, 1)
    for written in (out, codes):
        written.check()
        assert not written.array.any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 64), (33, 80, 128), (70, 64, 64)])
def test_fused_epilogues_equal_scalar(isa: str, m: int, n: int, k: int) -> None:
    case = GemmCase(m, n, k)
    exact = case.exact.astype(np.float64) * case.scale.array + case.bias.array

    def run(name: str) -> list[np.ndarray]:
        panels = Guarded((n // 16, m, 16), np.float32)
        testing.gemm_dequantize_panels(
            name, case.args, case.scale.address, case.bias.address, panels.address, m * 16, 1
        )
        rng = np.random.default_rng(1)
        residual = guarded(rng.standard_normal((m, n)).astype(np.float32))
        before = residual.array.copy()
        testing.gemm_dequantize_residual(
            name,
            case.args,
            case.scale.address,
            case.bias.address,
            residual.address,
            residual.address,
            n,
            1,
        )
        codes = Guarded((m, n), np.uint8, 1)
        testing.gemm_dequantize_gelu_quantize(
            name,
            case.args,
            case.scale.address,
            case.bias.address,
            case.mult.address,
            7.0,
            codes.address,
            n,
            1,
        )
        for out in (panels, residual, codes):
            out.check()
        flat = panels.array.transpose(1, 0, 2).reshape(m, n)
        np.testing.assert_allclose(flat, exact, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(residual.array, exact + before, rtol=1e-5, atol=1e-5)
        return [flat.copy(), residual.array.copy(), codes.array.copy()]

    for got, want in zip(run(isa), run("scalar"), strict=True):
        assert np.array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 1), (5, 32, 7), (6, 16, 64), (13, 48, 100)])
def test_gemm_f32_equals_scalar(isa: str, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(m)
    a = guarded(rng.standard_normal((m, k)).astype(np.float32))
    w = rng.standard_normal((k, n)).astype(np.float32)
    packed = guarded(np.ascontiguousarray(w.reshape(k, n // 16, 16).transpose(1, 0, 2)))
    bias = guarded(rng.standard_normal(n).astype(np.float32))
    results = []
    for name in (isa, "scalar"):
        out = Guarded((m, n), np.float32)
        testing.gemm_f32(name, a.address, k, packed.address, bias.address, out.address, n, m, n, k)
        out.check()
        results.append(out.array)
    assert np.array_equal(*results)
    np.testing.assert_allclose(results[0], a.array @ w + bias.array, rtol=1e-4, atol=1e-4)
