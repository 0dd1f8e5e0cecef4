"""Operands for the kernel tests: aligned or not, with guard bytes around what may be written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

_native = pytest.importorskip("bert_rt._native")

ISAS: list[str] = _native.supported_isas()
testing: Any = _native.testing
SPLIT_ISAS = [isa for isa in ISAS if testing.sums_in_16_bits(isa)]  # weights in two parts
GUARD = 0xA5


class Guarded:
    """An array with 256 guard bytes on both sides, `offset` bytes off a cache line."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._raw = np.full(size + 64 + offset + 512, GUARD, np.uint8)
        start = 256 + (-(self._raw.ctypes.data + 256) % 64) + offset
        self._end = start + size
        self._start = start
        self.array: NDArray[Any] = self._raw[start : self._end].view(dtype).reshape(shape)
        self.array[...] = 0

    @property
    def address(self) -> int:
        """Where the first element stands."""
        return int(self.array.ctypes.data)

    def check(self) -> None:
        """Fail where a guard byte was overwritten."""
        assert (self._raw[: self._start] == GUARD).all(), "written before the array"
        assert (self._raw[self._end :] == GUARD).all(), "written behind the array"


def guarded(values: NDArray[Any], offset: int = 0) -> Guarded:
    """A guarded copy."""
    copy = Guarded(values.shape, values.dtype, offset)
    copy.array[...] = values
    return copy


class GemmCase:
    """u8 A, packed s8 B and start values of one shape."""

    def __init__(
        self,
        m: int,
        n: int,
        k: int,
        *,
        fill: str = "random",
        offset: int = 0,
        weights: NDArray[np.int8] | None = None,
    ) -> None:
        rng = np.random.default_rng(m * 1_000_003 + n * 1009 + k)
        kp = testing.padded_k(k)
        lda = kp + offset
        self.m, self.n, self.k = m, n, k
        self.a = Guarded((m * lda,), np.uint8, offset)
        rows = self.a.array.reshape(m, lda)
        rows[...] = rng.integers(0, 256, (m, lda))  # what stands behind K must not matter
        w = rng.integers(-127, 128, (k, n)).astype(np.int8)
        if fill == "extreme":
            rows[...], w[...] = 255, -128
        if weights is not None:
            rows[::2], w = 255, np.ascontiguousarray(weights)
        self.b = Guarded((n * kp,), np.int8)
        sums = Guarded((n,), np.int32)
        testing.pack(int(w.ctypes.data), k, n, self.b.address, sums.address)
        assert np.array_equal(sums.array, w.astype(np.int64).sum(0))
        self.init = guarded(rng.integers(-1000, 1000, n).astype(np.int32), offset // 4 * 4)
        self.exact = (rows[:, :k].astype(np.int64) @ w.astype(np.int64) + self.init.array).astype(
            np.int32
        )
        self.scale = guarded((rng.random(n, np.float32) * 1e-4 + 1e-5).astype(np.float32))
        self.bias = guarded(rng.standard_normal(n, np.float32))
        self.mult = guarded((rng.random(n, np.float32) * 40 + 5).astype(np.float32))
        self.args = {
            "a": self.a.address,
            "lda": lda,
            "b": self.b.address,
            "ldb": kp * 16,
            "init": self.init.address,
            "m": m,
            "n": n,
            "k": k,
        }

    def split(self) -> dict[str, Any]:
        """Cap B, and return the arguments with the rest of it."""
        return {**self.args, "rest": testing.split(self.b.address, self.n, self.k)}
