"""What the operating system says of this machine's processor."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuInfo", "cpu_info", "has_exact_int8"]


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """A processor.

    Attributes:
        model: Its name.
        flags: Instruction set extensions in the names of Linux; empty where nothing tells.
    """

    model: str
    flags: frozenset[str]


@functools.cache
def cpu_info(path: Path = Path("/proc/cpuinfo")) -> CpuInfo:
    """Read what Linux says of the first processor.

    Args:
        path: The file.

    Returns:
        Name and flags; "unknown" and none where the file cannot be read.
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
    return CpuInfo(model, frozenset(flags.split()))


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
