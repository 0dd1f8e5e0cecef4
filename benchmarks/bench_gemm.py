"""Measure every kernel of the native engine per shape: GOP/s and share of the peak of the same run.

    python benchmarks/bench_gemm.py [--isa amx_int8,avx512vnni] [--shapes FILE]

Times are CPU time of one thread. The peak is that of the instruction set's dot-product
instruction alone, measured between the kernels. Every sample also knows how many instructions a
cycle the core took before and after it: a cloud's CPU is often one of a core's two threads, and
what a kernel does while the other one is quiet, and while it is busy, are two figures. Compare two
builds by the same one of them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import _native
from bert_rt.support.cli import int_at_least

KERNELS = ("s32", "panels", "residual", "gelu")
QUIET, BUSY = 0.9, 0.6  # of the most instructions a cycle


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """An array of zeros that begins at a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def address(array: np.ndarray[Any, Any]) -> int:
    """Where the first element stands."""
    return int(array.ctypes.data)


class Gemm:
    """One shape with its operands, as an instruction set wants them."""

    def __init__(self, isa: str, m: int, n: int, k: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        t = _native.testing
        kp = t.padded_k(k)
        self.m, self.n, self.k = m, n, k
        self.a = aligned((m, kp), np.uint8)
        self.a[:, :k] = rng.integers(0, 256, (m, k))
        # As wide as real weights are: sums of four overflow 16 bits about as often.
        w = np.clip(np.round(rng.standard_normal((k, n)) * 30), -127, 127).astype(np.int8)
        self.b = aligned((n * kp,), np.int8)
        self.init = aligned((n,), np.int32)
        t.pack(address(w), k, n, address(self.b), address(self.init))
        self.scale = aligned((n,), np.float32)
        self.scale[:] = 1e-4
        self.bias, self.mult = aligned((n,), np.float32), aligned((n,), np.float32)
        self.mult[:] = 10
        self.f32 = aligned((m * n,), np.float32)
        self.u8 = aligned((m, n), np.uint8)
        self.args: dict[str, Any] = {
            "a": address(self.a),
            "lda": kp,
            "b": address(self.b),
            "ldb": kp * 16,
            "init": address(self.init),
            "m": m,
            "n": n,
            "k": k,
        }
        if t.sums_in_16_bits(isa):
            self.args["rest"] = t.split(address(self.b), n, k)

    def run(self, isa: str, kernel: str, repeat: int) -> None:
        """Run one of KERNELS that many times."""
        t, g, out = _native.testing, self.args, address(self.f32)
        scale, bias = address(self.scale), address(self.bias)
        if kernel == "s32":
            t.gemm_s32(isa, g, out, self.n, repeat)
        elif kernel == "panels":
            t.gemm_dequantize_panels(isa, g, scale, bias, out, self.m * 16, repeat)
        elif kernel == "residual":
            t.gemm_dequantize_residual(isa, g, scale, bias, out, out, self.n, repeat)
        else:
            t.gemm_dequantize_gelu_quantize(
                isa, g, scale, bias, address(self.mult), 9.0, address(self.u8), self.n, repeat
            )


@dataclass(frozen=True, slots=True)
class Sample:
    """Operations (two a multiply-add) a second, of the peak, and instructions a cycle."""

    speed: float
    share: float
    width: float


def operations_per_second(gemm: Gemm, isa: str, kernel: str, seconds: float) -> float:
    """Operations (two a multiply-add) per second of CPU time."""
    repeat = 1
    while True:
        begin = _native.testing.thread_seconds()
        gemm.run(isa, kernel, repeat)
        took = _native.testing.thread_seconds() - begin
        if took >= seconds:
            return 2.0 * gemm.m * gemm.n * gemm.k * repeat / took
        repeat *= 2


def take_sample(gemm: Gemm, isa: str, kernel: str, seconds: float) -> Sample:
    """Time one kernel and the peak beside it."""
    before = _native.measure_issue_width()
    peak = _native.measure_peak(isa, seconds)
    speed = operations_per_second(gemm, isa, kernel, seconds)
    return Sample(speed, speed / peak, min(before, _native.measure_issue_width()))


def summary(samples: list[Sample]) -> str:
    """Median share of the peak with its quartiles and the number of samples."""
    if not samples:
        return "none"
    low, median, high = np.percentile([sample.share * 100 for sample in samples], [25, 50, 75])
    return f"{median:5.1f} % ({low:.1f} to {high:.1f}; {len(samples)})"


def main() -> None:
    """Print one line a shape and kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).parent
    parser.add_argument("--isa", default=",".join(_native.supported_isas()[:-1]))
    parser.add_argument("--shapes", default=str(here / "shapes" / "minilm.txt"))
    parser.add_argument("--seconds", type=float, default=0.004, help="of a sample, at least")
    parser.add_argument("--rounds", type=int_at_least(1), default=100, help="samples a kernel")
    options = parser.parse_args()
    lines = Path(options.shapes).read_text().splitlines()
    shapes = [line.split() for line in lines if line and not line.startswith("#")]
    found: dict[tuple[str, ...], list[Sample]] = {}
    for isa in options.isa.split(","):
        gemms = [(Gemm(isa, *map(int, shape[:3])), shape) for shape in shapes]
        for _ in range(options.rounds):
            for gemm, shape in gemms:
                sample = take_sample(gemm, isa, shape[3], options.seconds)
                found.setdefault((isa, *shape), []).append(sample)
    widths = [sample.width for samples in found.values() for sample in samples]
    most = float(np.percentile(widths, 95))  # not the maximum: single samples are off
    print(f"share of the peak where the core took over {QUIET * most:.1f} instructions a cycle")
    print(f"(quiet), below {BUSY * most:.1f} (busy), and in all; quartiles; samples")
    for (isa, m, n, k, kernel), samples in found.items():
        print(
            f"{isa:11s} M={m:>4s} N={n:>4s} K={k:>4s} {kernel:9s} "
            f"{np.median([sample.speed for sample in samples]) / 1e9:6.0f} GOP/s  "
            f"quiet {summary([x for x in samples if x.width > QUIET * most])}  "
            f"busy {summary([x for x in samples if x.width < BUSY * most])}  "
            f"all {summary(samples)}"
        )


if __name__ == "__main__":
    main()
