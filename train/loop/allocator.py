"""A word where the process runs on a slower memory allocator than the machine has.

A training step allocates and frees the same large tensors over and over. glibc takes blocks of more
than 32 MiB from the kernel and gives them straight back, so that their pages are cleared anew each
time, and leaves holes between the others that the next aligned block does not fit into. jemalloc
and tcmalloc keep them. No setting of glibc's (mallopt, GLIBC_TUNABLES) helped a long run.
"""

from __future__ import annotations

import ctypes.util
import os
import sys

__all__ = ["allocator_advice"]

# tcmalloc's package without the profiler has a name of its own.
_FASTER = ("jemalloc", "tcmalloc_minimal", "tcmalloc")


def allocator_advice() -> str | None:
    """Tell how to train faster on this machine's CPUs.

    An allocator has to be there before the program starts, so that it can only be advised.

    Returns:
        One sentence with the variable to set; None where one is preloaded or none is installed, or
        on another system than Linux.

    Source: the performance tuning guide of PyTorch's documentation, section "Switch memory
        allocator"; figures in docs/training.md.
    """
    if not sys.platform.startswith("linux") or "malloc" in os.environ.get("LD_PRELOAD", ""):
        return None
    for name in _FASTER:
        library = ctypes.util.find_library(name)
        if library is not None:
            return (
                f"training on CPUs is faster with {name}, which is installed: set LD_PRELOAD="
                f"{library} (docs/training.md, Memory allocator)"
            )
    return None
