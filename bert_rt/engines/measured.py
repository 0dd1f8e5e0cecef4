"""Classes of CPUs, and what `python -m runtime.bench` measured of the native engine on each.

A class is the instruction set that the native engine uses. `auto` goes by this table, doctor prints
it and docs/environment.md says how to add a row: measure, commit the page, name it here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

__all__ = ["CPU_CLASSES", "CpuClass", "cpu_class"]

_RESULTS = "benchmarks/results"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuClass:
    """What is known of a class of CPUs.

    Attributes:
        name: The native engine's instruction set.
        ratio: Throughput of the native engine from text to answer, over that of the best other
            engine in its best INT8 configuration: MiniLM-L6, two threads. None: not measured.
        against: That other engine.
        page: The page with the run, in the source tree; "" where there is none.
        ranks: Engine name to its rank in "auto" here, where that is not the rank of its SPEC.
        reason: Why the ranks are others.
    """

    name: str
    ratio: float | None = None
    against: str = ""
    page: str = ""
    ranks: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    def describe(self) -> str:
        """Return one clause: the ratio and its page, or that nothing was measured."""
        if self.ratio is None:
            return self.reason or "not measured"
        return (
            f"measured: native has {self.ratio:.2f} times the throughput of {self.against} "
            f"({self.page})"
        )


_ROWS = (
    CpuClass(
        name="amx_int8",
        ratio=2.62,
        against="openvino",
        page=f"{_RESULTS}/2026-11-27-bench-minilm-amx.md",
    ),
    CpuClass(
        name="avx512vnni",
        ratio=1.67,
        against="onnxruntime",
        page=f"{_RESULTS}/2026-12-01-bench-minilm-vnni.md",
    ),
    CpuClass(name="avxvnni"),
    CpuClass(name="avx512bw"),
    CpuClass(
        name="avx2",
        ratio=1.43,
        against="onnxruntime",
        page=f"{_RESULTS}/2026-11-30-bench-minilm-avx2-onnxruntime.md",
    ),
    CpuClass(name="neon_i8mm"),
    CpuClass(name="neon_dotprod"),
    # 60 questions did not finish in 240 s on a Zen 3, where ONNX Runtime answers 36.7 a second.
    CpuClass(
        name="scalar",
        ranks={"native": 90},
        reason="the native engine has no vector code for this CPU, only plain loops",
    ),
)
CPU_CLASSES: Mapping[str, CpuClass] = MappingProxyType({row.name: row for row in _ROWS})


def cpu_class() -> CpuClass | None:
    """Return the class of this machine's CPU.

    Returns:
        The class, or None where the native module is not built. Where BERT_RT_ISA forces an
        instruction set, its class, which then has no ranks of its own: whoever forces one wants to
        see the native engine, slow or not.
    """
    try:
        from bert_rt import _native
    except ImportError:
        return None
    forced = os.environ.get("BERT_RT_ISA")
    row = CPU_CLASSES.get(forced or _native.supported_isas()[0])
    return replace(row, ranks={}) if forced and row is not None else row
