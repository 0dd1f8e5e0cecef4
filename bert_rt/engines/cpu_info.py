"""What the operating system says of this machine's processor."""

from __future__ import annotations

import contextlib
import functools
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuInfo", "cpu_info", "has_exact_int8"]

_X86 = ("amd64", "i386", "i686", "x86", "x86_64")
# The native module's names of features that Linux calls something else.
_LINUX_NAMES = {"avx512vnni": "avx512_vnni", "avxvnni": "avx_vnni", "dotprod": "asimddp"}


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """A processor.

    Attributes:
        model: Its name.
        flags: Instruction set extensions in the names of Linux. On other systems those that the
            native module looks for, where it is built, and "sse2" on x86.
    """

    model: str
    flags: frozenset[str]


@functools.cache
def cpu_info(path: Path = Path("/proc/cpuinfo")) -> CpuInfo:
    """Read what Linux says of the first processor, or ask the native module.

    Args:
        path: Linux's file.

    Returns:
        Name and flags. Where the file says nothing, the name may be "unknown", and flags may be
        fewer than the processor has.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    model = fields.get("model name") or platform.processor() or "unknown"
    flags = fields.get("flags") or fields.get("Features", "")  # as on x86, as on ARM64
    return CpuInfo(model, frozenset(flags.split()) or _found_flags())


def _found_flags() -> frozenset[str]:
    """Flags where no file lists them: macOS, Windows, and Linux without /proc."""
    # All x86-64 has it. Without it, x86 would pass for a processor with exact INT8 products.
    flags = {"sse2"} if platform.machine().lower() in _X86 else set()
    with contextlib.suppress(ImportError):
        from bert_rt import _native

        flags |= {_LINUX_NAMES.get(name, name) for name in _native.cpu_features()}
    return frozenset(flags)


def has_exact_int8(info: CpuInfo) -> bool:
    """Tell whether libraries multiply u8 by s8 exactly on this processor.

    x86 without VNNI has only an instruction that adds two such products in 16 bits and saturates
    (vpmaddubsw), which full-range weights and activations overflow.

    Args:
        info: The processor.

    Returns:
        False for x86 processors without VNNI, True for all others.
    """
    if "sse2" not in info.flags:
        return True
    return bool(info.flags & {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})
