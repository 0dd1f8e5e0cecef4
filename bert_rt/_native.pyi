"""Padding-free INT8 BERT on CPU (runtime/csrc/bindings.cc)."""

from typing import Any

from bert_rt.types import FloatArray, IntArray

testing: Any

class Engine:
    def __init__(
        self,
        model: bytes,
        *,
        num_threads: int,
        isa: str = "",
        max_memory_mb: int = 0,
        group_tokens: int = 0,
    ) -> None: ...
    def run(
        self, input_ids: IntArray, token_type_ids: IntArray, cu_seqlens: IntArray
    ) -> tuple[FloatArray, FloatArray] | FloatArray: ...
    def info(self) -> dict[str, Any]: ...

def cpu_features() -> list[str]: ...
def supported_isas() -> list[str]: ...
def build_info() -> dict[str, Any]: ...
def measure_peak(isa: str, seconds: float = 0.1) -> float: ...
def measure_issue_width() -> float: ...
