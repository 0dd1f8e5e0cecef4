"""The native engine: padding-free INT8 BERT in C++ (runtime/csrc), the fastest one on CPU.

Its results do not depend on what else is in the batch, on the thread count or on the instruction
set. It reads the same model.onnx as every other engine; attention, which the graph leaves in
float, is computed in INT8 with scales made from each sequence alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from bert_rt.artifact.artifact import Artifact
from bert_rt.artifact.manifest import Manifest
from bert_rt.engines.base import EngineInfo, EngineOptions, EngineSpec, check_output_names
from bert_rt.engines.seq2seq.native import NativeEncoderDecoder
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import (
    ArtifactFormatError,
    ConfigError,
    EngineInternalError,
    EngineUnavailableError,
    InputError,
)
from bert_rt.types import FloatArray, IntArray, Outputs, PackedBatch

__all__ = [
    "DEFAULT_CONTEXT_CACHE_MB",
    "SPEC",
    "NativeEngine",
    "missing",
    "open_engine",
    "open_seq2seq",
]

# Some 250 passages of SQuAD with a hidden size of 384.
DEFAULT_CONTEXT_CACHE_MB = 64

SPEC = EngineSpec(
    name="native",
    rank=10,
    fork="survives",
    precisions=("int8",),
    devices=("cpu",),
    generates=True,
)

_LANES = 16  # kPanel of runtime/csrc/kernels.h
_SLOW = "no SIMD instruction set that the native engine knows: expect it to be slow"
_NOT_BUILT = "bert_rt._native is not built (no C++ compiler at install time)"


def _load_module() -> ModuleType | None:
    try:
        from bert_rt import _native
    except ImportError:
        return None
    module: ModuleType = _native
    return module


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what is missing for the native engine.

    Args:
        artifact: Where given, it must be an INT8 artifact.
        options: The device must be "cpu".

    Returns:
        None where the engine can run, else one sentence saying what is missing.
    """
    if _load_module() is None:
        return _NOT_BUILT
    if options.device not in SPEC.devices:
        return f'device {options.device!r} is not supported, only "cpu"'
    if artifact is not None and artifact.manifest.precision not in SPEC.precisions:
        return (
            f"it runs INT8 artifacts only, this one is {artifact.manifest.precision} "
            "(write one with compile.export --int8)"
        )
    return None if artifact is None else _odd_width(artifact.manifest)


def _odd_width(manifest: Manifest) -> str | None:
    decoder = manifest.decoder
    for config in (manifest.architecture, *([] if decoder is None else [decoder.architecture])):
        if config.hidden_size % _LANES:
            return f"hidden_size is {config.hidden_size}, and it wants a multiple of {_LANES}"
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
        EngineUnavailableError: Something is missing, or the instruction set that BERT_RT_ISA
            names cannot run on this machine.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'native' cannot run here: {reason}")
    manifest = artifact.manifest
    engine = NativeEngine(
        artifact.read(manifest.model.file),
        num_threads=resolve_num_threads(options.num_threads),
        max_context_cache_mb=_cache_mb(manifest, options),
    )
    check_output_names(manifest.outputs, engine.outputs)
    for name in ("num_split_layers", "passage_position_offset"):
        got, want = engine.facts[name], getattr(manifest.architecture, name)
        if got != want:
            raise ArtifactFormatError(
                f"{manifest.model.file}: got {name} {got}, want {want} as in the manifest"
            )
    return engine


def _cache_mb(manifest: Manifest, options: EngineOptions) -> int:
    if not manifest.architecture.num_split_layers:
        return 0
    wanted = options.max_context_cache_mb
    return DEFAULT_CONTEXT_CACHE_MB if wanted is None else wanted


def open_seq2seq(artifact: Artifact, options: EngineOptions) -> NativeEncoderDecoder:
    """Open the native engine on an artifact with a decoder; errors as in open_engine."""
    reason = missing(artifact, options)
    native = _load_module()
    if reason is not None or native is None:
        raise EngineUnavailableError(f"engine: 'native' cannot run here: {reason}")
    encoder, decoder = (artifact.manifest.graph(name) for name in ("encoder", "decoder"))
    return NativeEncoderDecoder(
        native,
        artifact.read(encoder.file),
        artifact.read(decoder.file),
        num_threads=resolve_num_threads(options.num_threads),
    )


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
        max_context_cache_mb: int = 0,
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
            max_context_cache_mb: Ceiling of what is kept of passages, beside the other; 0 for none.

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
                max_context_cache_mb=max_context_cache_mb,
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
            name=SPEC.name,
            version=str(native.build_info()["version"]),
            device="cpu",
            precision="int8",
            num_threads=int(facts["num_threads"]),
            is_packed=True,
            isa=str(facts["isa"]),
            notice=_SLOW if facts["isa"] == "scalar" else "",
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
        engine = self._opened()
        ranges = batch.logit_ranges
        if ranges is not None and ranges.shape[1:] != (2,):
            raise InputError(
                f"logit_ranges: got shape {ranges.shape}, want ({batch.num_sequences}, 2)"
            )
        try:
            result = engine.run(
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

    def prepare(self, passages: Sequence[IntArray]) -> None:
        """Compute what split layers make of passages, and keep it as far as there is room.

        Args:
            passages: Tokens of windows behind the question, each of shape (T,), int32.

        Raises:
            ConfigError: The model has no split layers.
            InputError: An id or a length is out of range.
            EngineInternalError: The engine is closed or failed.
        """
        self._with_passages("prepare", passages)

    def prepared_states(self, passages: Sequence[IntArray]) -> FloatArray:
        """Do as prepare does, and return what keep takes.

        Args:
            passages: As in prepare.

        Returns:
            The states behind the split layers, of shape (total of all T, D), float32: the same bits
            on every instruction set.

        Raises:
            ConfigError: As in prepare, like InputError and EngineInternalError.
        """
        states: FloatArray = self._with_passages("prepared_states", passages)
        return states

    def keep(self, passages: Sequence[IntArray], states: FloatArray) -> None:
        """Keep what prepared_states returned, as far as there is room.

        Args:
            passages: As in prepare.
            states: Of shape (total of all T, D), float32; an engine of the same model made them.

        Raises:
            ConfigError: As in prepare, like EngineInternalError.
            InputError: As in prepare, or states are of another shape.
        """
        self._with_passages("keep", passages, np.ascontiguousarray(states, dtype=np.float32))

    def _with_passages(self, name: str, passages: Sequence[IntArray], *others: FloatArray) -> Any:
        engine = self._opened()
        if not self._facts["num_split_layers"]:
            raise ConfigError("split layers: the artifact has none, so nothing can be kept")
        cu_seqlens = np.cumsum([0, *map(len, passages)], dtype=np.int32)
        ids = np.concatenate([np.zeros(0, np.int32), *passages]).astype(np.int32, copy=False)
        try:
            return getattr(engine, name)(ids, cu_seqlens, *others)
        except ValueError as error:
            raise InputError(str(error)) from error
        except (RuntimeError, MemoryError) as error:
            raise EngineInternalError(f"engine: 'native' failed: {error}") from error

    def context_bytes(self, num_tokens: int) -> int:
        """Return the bytes that a window with so many tokens behind the question takes."""
        return int(self._opened().context_bytes(num_tokens))

    def context_cache(self) -> Mapping[str, int]:
        """Return num_contexts, num_bytes, max_bytes, num_hits and num_misses of the cache."""
        facts: dict[str, int] = self._opened().context_cache()
        return facts

    def forget(self) -> None:
        """Empty the cache."""
        self._opened().forget()

    def _opened(self) -> Any:
        if self._engine is None:
            raise EngineInternalError("engine: 'native' is closed")
        return self._engine

    def close(self) -> None:
        """Free weights, buffers and threads. Calling it twice is harmless."""
        self._engine = None
