"""What an engine for encoder-decoders is.

It reads sources and takes the steps of a search (bert_rt.generation). The module of an engine that
has such says so in its SPEC (`generates`), and has

- `open_seq2seq(artifact, options) -> Seq2SeqEngine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import EngineInfo, EngineOptions
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import StepDecoder
from bert_rt.types import IntArray

__all__ = ["Asked", "Seq2SeqDecoder", "Seq2SeqEngine", "Seq2SeqModule"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a source asks of an engine: the options of its sequence.

    Attributes:
        search: How its targets are searched.
        watch: Called after each step with the tokens of the best target that no later step changes;
            by the engine's thread, so it must not wait for anything. None for nobody.
    """

    search: GenerationConfig
    watch: Callable[[tuple[int, ...]], None] | None = None


class Seq2SeqDecoder(StepDecoder, Protocol):
    """A StepDecoder that reads more sources while others are being decoded."""

    def admit(self, sources: Sequence[IntArray]) -> None:
        """Read more sources.

        Each has one empty row, numbered behind the rows of the step before. The next step may
        continue it by as many rows as other sources have.

        Args:
            sources: As in Seq2SeqEngine.start.

        Raises:
            EngineInternalError: As in Seq2SeqEngine.start.
        """
        ...


class Seq2SeqEngine(Protocol):
    """Decodes batches of sources, one batch at a time: an engine need not be thread-safe."""

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        ...

    def start(self, sources: Sequence[IntArray]) -> Seq2SeqDecoder:
        """Read sources.

        Args:
            sources: Token ids of each, special tokens included, shape (S,), int32; at least one.

        Returns:
            What takes the steps of their targets. It may be used until the next start, and no
            longer.

        Raises:
            EngineInternalError: The library underneath failed, or the engine is closed.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. Calling it twice is harmless."""
        ...


class Seq2SeqModule(Protocol):
    """What the module of an engine has beside EngineModule, where its SPEC says `generates`."""

    def open_seq2seq(self, artifact: Artifact, options: EngineOptions) -> Seq2SeqEngine:
        """Open the engine on an artifact that has a decoder.

        Args:
            artifact: The verified artifact.
            options: Device, threads and what else the engine needs.

        Returns:
            An engine that is ready to run.

        Raises:
            EngineUnavailableError: It cannot run here.
        """
        ...
