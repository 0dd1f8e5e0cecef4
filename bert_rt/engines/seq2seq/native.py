"""The native engine for encoder-decoders: sources are read once, targets written token by token.

The keys and values of a source are packed once and shared by all of its rows. Those of a target's
tokens stand in cells that no later token changes, and rows that have tokens in common share them:
a search that goes on with other rows copies nothing. A step computes rows of any lengths, without
padding, so sources can join and leave between steps; what a row gets depends on its own source and
tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bert_rt.engines.base import EngineInfo
from bert_rt.errors import (
    ArtifactFormatError,
    EngineInternalError,
    EngineUnavailableError,
    InputError,
)
from bert_rt.types import FloatArray, IntArray

__all__ = ["NativeDecoding", "NativeEncoderDecoder"]

ResultT = TypeVar("ResultT")
_GRAPHS = ("encoder.onnx", "decoder.onnx")


class NativeEncoderDecoder:
    """An open native encoder-decoder. Several threads may decode, and one computes at a time."""

    def __init__(
        self,
        native: ModuleType,
        encoder: bytes,
        decoder: bytes,
        *,
        num_threads: int,
        isa: str = "",
        max_memory_mb: int = 0,
    ) -> None:
        """Load and pack both graphs.

        Args:
            native: The module bert_rt._native.
            encoder: The bytes of encoder.onnx; not kept.
            decoder: The bytes of decoder.onnx; not kept.
            num_threads: Threads in use, this one included.
            isa: As in NativeEngine.
            max_memory_mb: Ceiling of weights and buffers together, without what is kept of sources
                and targets; 0 for none.

        Raises:
            ArtifactFormatError: A graph is damaged or not one that the engine knows.
            EngineUnavailableError: The instruction set cannot run here, or the ceiling is too low.
        """
        try:
            self._engine: Any = native.EncoderDecoder(
                encoder, decoder, num_threads=num_threads, isa=isa, max_memory_mb=max_memory_mb
            )
        except ValueError as error:
            if str(error).startswith(_GRAPHS):
                raise ArtifactFormatError(str(error)) from error
            raise EngineUnavailableError(str(error)) from error
        except RuntimeError as error:
            raise EngineUnavailableError(str(error)) from error
        self._native = native
        self._facts: dict[str, Any] = dict(self._engine.info())
        is_slow = self._facts["isa"] == "scalar"
        self._info = EngineInfo(
            name="native",
            version=str(native.build_info()["version"]),
            device="cpu",
            precision="int8",
            num_threads=int(self._facts["num_threads"]),
            is_packed=True,
            isa=str(self._facts["isa"]),
            notice="no SIMD instruction set that the native engine knows: expect it to be slow"
            if is_slow
            else "",
        )

    @property
    def info(self) -> EngineInfo:
        """Name, instruction set, precision and threads of this engine."""
        return self._info

    @property
    def facts(self) -> Mapping[str, Any]:
        """Architecture, weight_bytes, ceiling_bytes and cell_bytes (of a token of a target)."""
        return dict(self._facts)

    @property
    def max_target_length(self) -> int:
        """Most tokens of a target, the start token included."""
        return int(self._facts["max_target_length"])

    def source_bytes(self, num_tokens: int) -> int:
        """Return what a source of so many tokens takes while it is decoded."""
        return int(self._open().source_bytes(num_tokens))

    def start(self, sources: Sequence[IntArray]) -> NativeDecoding:
        """Read sources, and begin an empty target for each.

        Args:
            sources: Token ids of each, shape (S,), integers; none for sources that join later.

        Returns:
            A Seq2SeqDecoder that finds the best tokens of each row itself.

        Raises:
            InputError: A source is empty or too long, or a token is out of range.
            EngineInternalError: The engine is closed or failed.
        """
        decoding = NativeDecoding(
            self._native.Decoding(self._open()),
            self.max_target_length,
            int(self._facts["vocab_size"]),
        )
        decoding.admit(sources)
        return decoding

    def close(self) -> None:
        """Give the engine up; what is being decoded goes on. Calling it twice is harmless."""
        self._engine = None

    def _open(self) -> Any:
        if self._engine is None:
            raise EngineInternalError("engine: 'native' is closed")
        return self._engine


class NativeDecoding:
    """Sources that are being decoded, and their partial targets, the rows.

    It is a Seq2SeqDecoder and a BestStepDecoder: rows may be of different lengths, sources may join
    before any step and have any number of rows, and a source leaves with the first step that
    continues none of its rows. One thread at a time may use it.
    """

    def __init__(self, decoding: Any, max_target_length: int, vocab_size: int) -> None:
        """Wrap the native state."""
        self._decoding = decoding
        self.max_target_length = max_target_length
        self.vocab_size = vocab_size

    @property
    def num_rows(self) -> int:
        """Rows that the next step may continue."""
        return int(self._decoding.num_rows)

    @property
    def num_bytes(self) -> int:
        """Memory of sources and targets, with what is kept for the next ones."""
        return int(self._decoding.bytes)

    def admit(self, sources: Sequence[IntArray]) -> None:
        """Read more sources, each with an empty row behind those of the step before.

        Args:
            sources: Token ids of each, shape (S,), integers.

        Raises:
            InputError: A source is empty or too long, or a token is out of range.
            EngineInternalError: The engine failed.
        """
        if not sources:
            return
        lengths = np.cumsum([0, *(len(source) for source in sources)])
        _call(self._decoding.add, _int32(np.concatenate(sources)), _int32(lengths))

    def step(self, tokens: npt.NDArray[Any], beam_idx: npt.NDArray[Any]) -> FloatArray:
        """Read one more token in every row; see StepDecoder.

        Args:
            tokens: What each new row reads, shape (R,), integers.
            beam_idx: Which row of the step before each new row continues, shape (R,), integers.

        Returns:
            Scores of the next token, shape (R, V), float32.

        Raises:
            InputError: A number is out of range, or a row has no place for another token; nothing
                has changed then.
            EngineInternalError: The engine failed.
        """
        logits: FloatArray = _call(self._decoding.step, _int32(tokens), _int32(beam_idx))
        return logits

    def step_best(
        self, tokens: npt.NDArray[Any], beam_idx: npt.NDArray[Any], count: int
    ) -> tuple[FloatArray, IntArray]:
        """Do the same, and return only the best tokens of each row.

        Args:
            tokens: As in step.
            beam_idx: As in step.
            count: How many, at most V.

        Returns:
            Log probabilities of shape (R, count), float32, greatest first, and the tokens, int32;
            of equal ones the lower token stands first.

        Raises:
            InputError: As in step, or count is out of range.
            EngineInternalError: The engine failed.
        """
        best: tuple[FloatArray, IntArray] = _call(
            self._decoding.step_best, _int32(tokens), _int32(beam_idx), count
        )
        return best

    def best(self, logits: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
        """Find the best tokens in scores that step has returned, as step_best does.

        Args:
            logits: Shape (R, V), float32.
            count: How many, at most V.

        Returns:
            As step_best, to the bit.

        Raises:
            InputError: count is out of range.
            EngineInternalError: The engine failed.
        """
        scores = np.ascontiguousarray(logits, dtype=np.float32)
        best: tuple[FloatArray, IntArray] = _call(self._decoding.best, scores, count)
        return best


def _int32(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(values, dtype=np.int32)


def _call(function: Callable[..., ResultT], *args: Any) -> ResultT:
    try:
        return function(*args)
    except ValueError as error:
        raise InputError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        raise EngineInternalError(f"engine: 'native' failed: {error}") from error
