"""Weights in two parts, for instruction sets that add in 16 bits: exact for all weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kernels.support import SPLIT_ISAS, GemmCase, Guarded, testing

# Around the register tiles (4 and 8 rows), the blocks of 32 rows and the few rows (up to 4) that
# are multiplied by themselves; steps of K odd and even.
ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 36, 37, 47, 63, 64, 65)
SHAPES = [(m, 32, 64) for m in ROWS] + [
    (1, 16, 4),
    (2, 32, 12),
    (3, 48, 20),
    (4, 16, 60),
    (1, 1152, 384),
    (4, 96, 1536),
    (7, 16, 4),
    (33, 32, 12),
    (40, 48, 20),
    (35, 16, 60),
    (37, 80, 128),
    (70, 1152, 384),
    (33, 384, 1536),
]


def weights_of(kind: str, k: int, n: int) -> NDArray[np.int8]:
    """Weights of one kind: within the bound, on it, one beyond, everywhere, or of one sign."""
    rng = np.random.default_rng(k * 1009 + n)
    sign = np.where(np.arange(k)[:, None] // 8 % 2 == 0, 1, -1) * np.ones((1, n), np.int64)
    if kind == "small":
        w = rng.integers(-32, 33, (k, n))
    elif kind == "on the bound":
        w = 32 * sign
    elif kind == "one beyond":
        w = 32 * sign
        w[::8] += sign[::8]
    elif kind == "lowest":
        w = np.full((k, n), -128)
    elif kind == "highest":
        w = np.full((k, n), 127)
    elif kind == "both ends":
        w = rng.choice([-128, 127], (k, n))
    elif kind == "sparse":
        w = np.where(rng.random((k, n)) < 0.02, rng.choice([-128, 127], (k, n)), 0)
    else:
        w = rng.integers(-128, 128, (k, n))
    return w.astype(np.int8)


KINDS = ("small", "on the bound", "one beyond", "lowest", "highest", "both ends", "sparse", "any")


def check_exact(isa: str, case: GemmCase, args: dict[str, Any]) -> None:
    """Compare the product with int64's, and look at the guard bytes."""
    out = Guarded((case.m, case.n), np.int32)
    testing.gemm_s32(isa, args, out.address, case.n, 1)
    out.check()
    case.b.check()
    assert np.array_equal(out.array, case.exact)


@pytest.mark.parametrize("isa", SPLIT_ISAS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_weights_in_two_parts_are_exact(isa: str, kind: str, m: int, n: int, k: int) -> None:
    case = GemmCase(m, n, k, weights=weights_of(kind, k, n))
    check_exact(isa, case, case.split())


@pytest.mark.parametrize("isa", SPLIT_ISAS)
@pytest.mark.parametrize("offset", [1, 3, 4, 37])
def test_unaligned_rows(isa: str, offset: int) -> None:
    case = GemmCase(37, 48, 128, offset=offset, weights=weights_of("any", 128, 48))
    check_exact(isa, case, case.split())


@pytest.mark.parametrize(
    ("kind", "fours_a_column"),
    [
        ("small", 0),
        ("on the bound", 0),
        ("one beyond", 2),  # 8 times one weight too much
        ("lowest", 24),  # 8 times 2 lanes with 3 weights too many, each alone in its pair
    ],
)
def test_what_the_rest_holds(kind: str, fours_a_column: int) -> None:
    case = GemmCase(1, 16, 64, weights=weights_of(kind, 64, 16))
    assert case.split()["rest"].num_fours == 16 * fours_a_column


@pytest.mark.parametrize("kind", KINDS)
def test_no_sum_of_capped_weights_overflows(kind: str) -> None:
    case = GemmCase(1, 32, 96, weights=weights_of(kind, 96, 32))
    case.split()
    steps = case.b.array.reshape(2, testing.padded_k(96) // 8, 2, 16, 2, 2).astype(np.int64)
    lanes = steps.transpose(0, 1, 3, 4, 2, 5).reshape(-1, 4)  # four weights that share a lane
    assert np.maximum(lanes, 0).sum(1).max() <= 128
    assert np.minimum(lanes, 0).sum(1).min() >= -128


@pytest.mark.parametrize("isa", SPLIT_ISAS)
def test_a_deep_matrix_stays_whole(isa: str) -> None:
    k = testing.max_split_depth + 64
    case = GemmCase(5, 16, k, weights=weights_of("lowest", k, 16))
    args = case.split()
    assert args["rest"].num_fours == 0
    check_exact(isa, case, args)
    deepest = GemmCase(34, 16, k - 64, weights=weights_of("any", k - 64, 16))
    check_exact(isa, deepest, deepest.split())


@pytest.mark.parametrize("isa", SPLIT_ISAS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 64), (33, 80, 128), (70, 64, 64)])
def test_epilogues_equal_those_of_whole_weights(isa: str, m: int, n: int, k: int) -> None:
    case = GemmCase(m, n, k, weights=weights_of("any", k, n))
    scale, bias, mult = case.scale.address, case.bias.address, case.mult.address

    def run(name: str, args: dict[str, Any]) -> list[NDArray[Any]]:
        panels, sums = Guarded((n // 16, m, 16), np.float32), Guarded((m, n), np.float32)
        codes = Guarded((m, n), np.uint8, 1)
        testing.gemm_dequantize_panels(name, args, scale, bias, panels.address, m * 16, 1)
        testing.gemm_dequantize_residual(name, args, scale, bias, 0, sums.address, n, 1)
        testing.gemm_dequantize_gelu_quantize(
            name, args, scale, bias, mult, 7.0, codes.address, n, 1
        )
        for out in (panels, sums, codes):
            out.check()
        return [out.array.copy() for out in (panels, sums, codes)]

    want = run("scalar", case.args)  # before B is capped
    for got, expected in zip(run(isa, case.split()), want, strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("isa", SPLIT_ISAS)
def test_no_rows_are_no_work(isa: str) -> None:
    case = GemmCase(1, 48, 128, weights=weights_of("any", 128, 48))
    out = Guarded((1, 48), np.int32)
    testing.gemm_s32(isa, {**case.split(), "m": 0}, out.address, 48, 1)
    out.check()
    assert not out.array.any()
