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
        self,
        input_ids: IntArray,
        token_type_ids: IntArray,
        cu_seqlens: IntArray,
        logit_ranges: IntArray | None = None,
    ) -> tuple[FloatArray, FloatArray] | FloatArray: ...
    def info(self) -> dict[str, Any]: ...

class WordPiece:
    def __init__(
        self,
        tokens: list[str],
        ids: list[int],
        *,
        prefix: str,
        unknown_id: int,
        max_chars: int,
        lowercase: bool,
    ) -> None: ...
    def encode(self, text: str) -> tuple[IntArray, IntArray, list[tuple[int, int, int]]] | None: ...

def cpu_features() -> list[str]: ...
def supported_isas() -> list[str]: ...
def build_info() -> dict[str, Any]: ...
def measure_peak(isa: str, seconds: float = 0.1) -> float: ...
def measure_issue_width() -> float: ...
