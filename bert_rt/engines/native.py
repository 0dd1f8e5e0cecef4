"""The native engine: padding-free INT8 BERT in C++ (runtime/csrc), the fastest one on CPU.

Its results do not depend on what else is in the batch, on the thread count or on the instruction
set. It reads the same model.onnx as every other engine; attention, which the graph leaves in
float, is computed in INT8 with scales made from each sequence alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import EngineInfo, EngineOptions, check_output_names
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import (
    ArtifactFormatError,
    EngineInternalError,
    EngineUnavailableError,
    InputError,
)
from bert_rt.types import Outputs, PackedBatch

__all__ = ["NativeEngine", "missing", "open_engine"]

_NOT_BUILT = "bert_rt._native is not built (no C++ compiler at install time)"


def _load_module() -> ModuleType | None:
    try:
        from bert_rt import _native
    except ImportError:
        return None
    module: ModuleType = _native
    return module


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what the native engine lacks here.

    Args:
        artifact: Where given, it must be an INT8 artifact.
        options: The device must be "cpu".

    Returns:
        None where the engine can run, else one sentence saying what is missing.
    """
    if _load_module() is None:
        return _NOT_BUILT
    if options.device != "cpu":
        return f'device {options.device!r} is not supported, only "cpu"'
    if artifact is not None and artifact.manifest.precision != "int8":
        return (
            f"it runs INT8 artifacts only, this one is {artifact.manifest.precision} "
            "(write one with compile.export --int8)"
        )
    return None


def open_engine(artifact: Artifact, options: EngineOptions) -> NativeEngine:
    """Open the native engine.

    Args:
        artifact: The verified INT8 artifact.
        options: Threads; None for one a physical core.

    Returns:
        An engine that is ready to run.

    Raises:
        ArtifactFormatError: model.onnx is damaged or not a graph that the engine knows.
        EngineUnavailableError: It lacks something here, or the instruction set that BERT_RT_ISA
            names cannot run on this machine.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'native' cannot run here: {reason}")
    manifest = artifact.manifest
    engine = NativeEngine(
        artifact.read(manifest.model.file), num_threads=resolve_num_threads(options.num_threads)
    )
    check_output_names(manifest.outputs, engine.outputs)
    return engine


class NativeEngine:
    """An open native engine. Safe to call from several threads and after a fork."""

    def __init__(
        self,
        model: bytes,
        *,
        num_threads: int,
        isa: str = "",
        max_memory_mb: int = 0,
        group_tokens: int = 0,
    ) -> None:
        """Load and pack a model.

        Args:
            model: The bytes of model.onnx; not kept.
            num_threads: Threads in use, this one included.
            isa: "amx_int8", "avx512vnni", "avxvnni", "avx512bw" or "avx2" on x86-64, "neon_i8mm" or
                "neon_dotprod" on ARM64, "scalar" on both; empty for what BERT_RT_ISA says, without
                it the best that this machine has.
            max_memory_mb: Ceiling of weights and buffers together; 0 for none.
            group_tokens: Tokens that a thread works on at a time; 0 for the default.

        Raises:
            ArtifactFormatError: The bytes are damaged or not a graph that the engine knows.
            EngineUnavailableError: The module is not built, the instruction set cannot run here,
                or the ceiling is too low.
        """
        native = _load_module()
        if native is None:
            raise EngineUnavailableError(f"engine: 'native' cannot run here: {_NOT_BUILT}")
        try:
            self._engine: Any = native.Engine(
                model,
                num_threads=num_threads,
                isa=isa,
                max_memory_mb=max_memory_mb,
                group_tokens=group_tokens,
            )
        except ValueError as error:
            if str(error).startswith("model.onnx"):
                raise ArtifactFormatError(str(error)) from error
            raise EngineUnavailableError(str(error)) from error
        except RuntimeError as error:
            raise EngineUnavailableError(str(error)) from error
        facts = self._engine.info()
        self._facts: dict[str, Any] = dict(facts)
        self._outputs: dict[str, str] = dict(facts["outputs"])
        self._info = EngineInfo(
            name="native",
            version=str(native.build_info()["version"]),
            device="cpu",
            precision="int8",
            num_threads=int(facts["num_threads"]),
            is_packed=True,
            isa=str(facts["isa"]),
            notice=""
            if facts["isa"] != "scalar"
            else "no SIMD instruction set that the native engine knows: expect it to be slow",
        )

    @property
    def info(self) -> EngineInfo:
        """Name, instruction set, precision and threads of this engine."""
        return self._info

    @property
    def facts(self) -> dict[str, Any]:
        """Architecture, weight_bytes, ceiling_bytes (of weights and buffers) and group_tokens."""
        return dict(self._facts)

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return self._outputs

    def run(self, batch: PackedBatch) -> Outputs:
        """Compute the outputs of every token (or sequence) of the batch.

        Args:
            batch: Sequences without padding, in any number; each of 1 to max_sequence_length
                tokens. Where it has logit_ranges, logits outside are not computed.

        Returns:
            The outputs by name, float32: of shape (T, ...) per token, 0 where not computed, and
            (B, ...) per sequence.

        Raises:
            InputError: An id, a token type, a length or a range of logits is out of range.
            EngineInternalError: The engine is closed or failed.
        """
        if self._engine is None:
            raise EngineInternalError("engine: 'native' is closed")
        ranges = batch.logit_ranges
        if ranges is not None and ranges.shape[1:] != (2,):
            raise InputError(
                f"logit_ranges: got shape {ranges.shape}, want ({batch.num_sequences}, 2)"
            )
        try:
            result = self._engine.run(
                np.ascontiguousarray(batch.input_ids, dtype=np.int32),
                np.ascontiguousarray(batch.token_type_ids, dtype=np.int32),
                np.ascontiguousarray(batch.cu_seqlens, dtype=np.int32),
                None if ranges is None else np.ascontiguousarray(ranges, dtype=np.int32),
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        except (RuntimeError, MemoryError) as error:
            raise EngineInternalError(f"engine: 'native' failed: {error}") from error
        arrays = result if isinstance(result, tuple) else (result,)
        return dict(zip(self._outputs, arrays, strict=True))

    def close(self) -> None:
        """Free weights, buffers and threads. Calling it twice is harmless."""
        self._engine = None
