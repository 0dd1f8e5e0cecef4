"""Show how jemalloc's memory grows under blocks of mixed sizes, by its options.

LD_PRELOAD=libjemalloc.so.2 MALLOC_CONF=OPTIONS python benchmarks/allocator_growth.py

Prints the MB that jemalloc has mapped. The blocks are never written to, so it takes no time.
"""

from __future__ import annotations

import ctypes
import random

_MB = 1 << 20
_BEFORE = (200, 7 * _MB)  # blocks that are freed at the start, as the first of several seeds does
_SIZES = (0.1, 0.25, 0.4, 1.6, 1.6, 6.5)  # of a round's 80 blocks, MB, times 0.3 to 1
_TOLD = (1, 100, 1000, 3000)


def mapped_mb(jemalloc: ctypes.CDLL) -> int:
    """Ask jemalloc how much it has mapped."""
    epoch, value, size = ctypes.c_uint64(1), ctypes.c_size_t(), ctypes.c_size_t(8)
    jemalloc.mallctl(b"epoch", None, None, ctypes.byref(epoch), ctypes.c_size_t(8))
    jemalloc.mallctl(
        b"stats.mapped", ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return value.value // _MB


def main() -> None:
    """Allocate and free, round by round."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    if not hasattr(library, "mallctl"):
        raise SystemExit("LD_PRELOAD: names no jemalloc")
    draw = random.Random(0)
    count, size = _BEFORE
    for block in [library.malloc(size) for _ in range(count)]:
        library.free(block)
    for turn in range(1, _TOLD[-1] + 1):
        length = draw.uniform(0.3, 1.0)
        blocks = [library.malloc(int(length * draw.choice(_SIZES) * _MB)) for _ in range(80)]
        draw.shuffle(blocks)
        for block in blocks:
            library.free(block)
        if turn in _TOLD:
            print(f"after {turn} rounds: {mapped_mb(library)} MB", flush=True)


if __name__ == "__main__":
    main()
