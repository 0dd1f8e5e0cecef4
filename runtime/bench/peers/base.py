"""What is measured: an engine in one configuration, behind the library's own Engine protocol.

A Peer's runner takes a packed batch of any size and does inside what is best for its engine: sort
by length, cut into rectangles, spread them over streams. So a peer profits from everything that
the library does around an engine, and the native engine from nothing that others do not get.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import Engine, EngineInfo, EngineOptions
from bert_rt.engines.native import NativeEngine
from bert_rt.engines.packing import pad, plan_batches, unpad
from bert_rt.engines.registry import missing, open_engine
from bert_rt.errors import EngineUnavailableError
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.types import Feature, Outputs, PackedBatch

__all__ = [
    "PRODUCT_BATCH_TOKENS",
    "Absent",
    "Infer",
    "PaddedRunner",
    "Peer",
    "Peers",
    "Rectangle",
    "Setup",
    "open_native",
]

# What Runtime.load gives to the scheduler: the native engine is measured as it is sold.
PRODUCT_BATCH_TOKENS = 4096
# No bound: a padded engine sorts best where it sees all that waits at once.
_ALL_TOKENS = 2**30

Rectangle = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""input_ids, attention_mask and token_type_ids, each of shape (B, S), int64."""

Infer = Callable[[Iterable[Rectangle], int], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]
"""Rectangles and their number -> start and end logits of each, of shape (B, S)."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the engines are opened with.

    Attributes:
        artifact: The INT8 artifact that is measured.
        float_artifact: The same checkpoint in float, or None.
        calibration: Windows of text for post-training quantization; may be empty.
        checkpoint: The checkpoint directory, or None.
        num_threads: Threads of every engine.
        native_isas: Instruction sets to force in addition.
        batch_sizes: Sequences of a padded batch.
        cache_dir: Where quantized models are kept, or None.
        split_artifacts: Artifacts with split layers, for the native engine.
        max_context_cache_mb: What it keeps of passages; None for its default.
    """

    artifact: Artifact
    float_artifact: Artifact | None
    calibration: Sequence[Feature]
    checkpoint: str | None
    num_threads: int
    native_isas: Sequence[str] = ()
    batch_sizes: Sequence[int] = (1, 8, 32)
    cache_dir: Path | None = None
    split_artifacts: Sequence[Artifact] = ()
    max_context_cache_mb: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """One configuration of an engine, open.

    Attributes:
        engine: Name in the results, such as "openvino".
        config: What distinguishes it from the engine's others.
        precision: "int8", or "float" for float32 and bfloat16.
        compiled: Peers that share this share a compiled model, and so what a single request costs.
        runner: The engine.
        num_threads: Threads of one run.
        max_batch_tokens: What the scheduler and the engine scope hand over at a time.
        compiles_shapes: Whether the first batch of a shape costs more than the next ones, so that
            all shapes must be run before any is timed.
        passage_position_offset: That of the model; not 0 where it has split layers, so that the
            engine keeps passages.
    """

    engine: str
    config: str
    precision: str
    compiled: str
    runner: Engine
    num_threads: int
    max_batch_tokens: int = _ALL_TOKENS
    compiles_shapes: bool = False
    passage_position_offset: int = 0

    @property
    def is_split(self) -> bool:
        """Whether the model has split layers."""
        return self.passage_position_offset > 0

    @property
    def name(self) -> str:
        """Engine and configuration."""
        return f"{self.engine} ({self.config})"

    @property
    def group(self) -> tuple[str, str]:
        """Peers of a group compete to stand for their engine."""
        return self.engine, self.precision


@dataclass(frozen=True, slots=True)
class Absent:
    """What was not measured.

    Attributes:
        engine: The engine.
        config: Which of its configurations; "" for all.
        reason: Why, in a sentence.
    """

    engine: str
    config: str
    reason: str


@dataclass(slots=True)
class Peers:
    """What could be opened, and what could not.

    Attributes:
        open: The peers.
        absent: What is missing, with the reason.
    """

    open: list[Peer] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)


class PaddedRunner:
    """Runs packed batches on an engine that wants rectangles: sorted by length, cut and padded."""

    def __init__(self, info: EngineInfo, infer: Infer, *, batch_size: int, pad_id: int) -> None:
        """Wrap an engine.

        Args:
            info: What the engine says of itself, is_packed set: batches are sorted here.
            infer: Runs rectangles; it draws them one by one, so that padding one may overlap with
                computing another.
            batch_size: Sequences of a rectangle at most.
            pad_id: Token that fills the rows up.
        """
        self._info = info
        self._infer: Infer | None = infer
        self._batch_size = batch_size
        self._pad_id = pad_id

    @property
    def info(self) -> EngineInfo:
        """What the engine says of itself."""
        return self._info

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return QuestionAnswering.head_spec.outputs

    def run(self, batch: PackedBatch) -> Outputs:
        """Compute the logits of every token of the batch.

        Args:
            batch: Sequences without padding.

        Returns:
            start_logits and end_logits of shape (T,), float32, in the batch's order.
        """
        assert self._infer is not None, "the runner is closed"
        groups = plan_batches(
            np.diff(batch.cu_seqlens).tolist(),
            max_tokens=_ALL_TOKENS,
            is_packed=False,
            max_sequences=self._batch_size,
        )
        parts = [_Part.of(batch, group) for group in groups]
        outputs = self._infer(self._rectangles(parts), len(parts))
        start_T = np.empty(batch.num_tokens, np.float32)
        end_T = np.empty(batch.num_tokens, np.float32)
        for part, (start_BS, end_BS) in zip(parts, outputs, strict=True):
            start_T[part.rows] = unpad(start_BS, part.batch.cu_seqlens)
            end_T[part.rows] = unpad(end_BS, part.batch.cu_seqlens)
        return {"start_logits": start_T, "end_logits": end_T}

    def close(self) -> None:
        """Let go of the engine. Calling it twice is harmless."""
        self._infer = None

    def _rectangles(self, parts: Iterable[_Part]) -> Iterator[Rectangle]:
        for part in parts:
            yield pad(part.batch, self._pad_id)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some sequences of a batch, and the rows of the whole that are theirs."""

    batch: PackedBatch
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, batch: PackedBatch, indices: Sequence[int]) -> _Part:
        starts = batch.cu_seqlens[:-1][indices]
        lengths = batch.cu_seqlens[1:][indices] - starts
        cu_seqlens = np.zeros(len(indices) + 1, np.int32)
        np.cumsum(lengths, out=cu_seqlens[1:])
        rows = np.arange(cu_seqlens[-1]) + np.repeat(starts - cu_seqlens[:-1], lengths)
        part = PackedBatch(
            batch.input_ids[rows], batch.token_type_ids[rows], cu_seqlens, int(lengths.max())
        )
        return cls(part, rows)


def open_native(setup: Setup) -> Peers:
    """Open the native engine: as Runtime.load does, on one thread, and with forced sets.

    Args:
        setup: What to open it with.

    Returns:
        Engines "native", "native:1-thread" where more threads are asked for, "native:split-K" with
        an artifact whose K lowest layers are split, and "native:ISA".
    """
    peers = Peers()
    options = EngineOptions(num_threads=setup.num_threads)
    reason = missing("native", setup.artifact, options)
    if reason is not None:
        peers.absent.append(Absent("native", "", reason))
        return peers

    def add(name: str, engine: Engine, config: str = "", offset: int = 0) -> None:
        info = engine.info
        config = info.isa + config
        threads = info.num_threads
        peer = Peer(name, config, "int8", name, engine, threads, PRODUCT_BATCH_TOKENS)
        peers.open.append(dataclasses.replace(peer, passage_position_offset=offset))

    add("native", open_engine("native", setup.artifact, options), ", as Runtime.load opens it")
    keeping = dataclasses.replace(options, max_context_cache_mb=setup.max_context_cache_mb)
    for artifact in setup.split_artifacts:
        config = artifact.manifest.architecture
        add(
            f"native:split-{config.num_split_layers}",
            open_engine("native", artifact, keeping),
            f", {config.num_split_layers} of {config.num_hidden_layers} layers split",
            config.passage_position_offset,
        )
    if setup.num_threads > 1:
        single = EngineOptions(num_threads=1)
        add("native:1-thread", open_engine("native", setup.artifact, single))
    model = setup.artifact.read("model.onnx")
    for isa in setup.native_isas:
        try:
            engine = NativeEngine(model, num_threads=setup.num_threads, isa=isa)
        except EngineUnavailableError as error:
            peers.absent.append(Absent(f"native:{isa}", "", str(error)))
            continue
        add(f"native:{isa}", engine)
    return peers
