"""An encoder-decoder as two graphs, on any library that runs graphs.

A batch has a place for every source. The rows of a source share a store of keys and values, to
which every step adds those of its tokens; a mask says which of them are the tokens of a row. So
rows that go on, or end, copy nothing: the stores go from each step to the next one as the library
gives them. A place that a source has left is taken by the next one, whose mask shows nothing of
what is stored there.

Shapes: B places, S padded source length, Q rows of each source, R rows of the sources that go on,
P tokens in a store, N heads, H head dim, D = N * H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import EngineInfo, check_output_names
from bert_rt.engines.packing import plan_batches
from bert_rt.errors import ArtifactFormatError, EngineInternalError
from bert_rt.generation.scores import best_of_rows
from bert_rt.model.config import BertConfig
from bert_rt.support.seq2seq import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOG_PROBS,
    LOGITS,
    PAST_MASK,
    POSITION_IDS,
    SOURCE_MASK,
    cross_names,
    empty_past,
    past_names,
    present_names,
)
from bert_rt.types import FloatArray, IntArray

__all__ = ["GraphDecoder", "GraphSeq2Seq", "RunGraph", "check_graphs"]

# Inputs of a graph by name to its outputs by name. Outputs are arrays, or tensors of the library
# that go into the next step as they are; their numpy() gives an array.
RunGraph = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_Ids = npt.NDArray[np.int64]
# Sources are read in batches of so many tokens, those of like lengths together: less is padded.
_READ_TOKENS = 512
# Places without a source, and tokens in the stores that no row looks at, are computed all the same.
# Once they are this share of all, what is left is copied together.
_IDLE_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class _Source:
    """What the encoder gave of one source.

    Attributes:
        cross: Keys and values of cross attention by name, shape (S, D) each.
        length: S.
    """

    cross: Mapping[str, FloatArray]
    length: int


class GraphSeq2Seq:
    """Decodes sources by two graphs: a Seq2SeqEngine."""

    def __init__(
        self, encode: RunGraph, step: RunGraph, artifact: Artifact, info: EngineInfo
    ) -> None:
        """Take over two open graphs.

        Args:
            encode: Runs the encoder's graph.
            step: Runs the decoder's graph.
            artifact: What they are of.
            info: The engine.
        """
        decoder = artifact.manifest.decoder
        assert decoder is not None, "only artifacts with a decoder are opened so"
        self.info = info
        self._graphs: tuple[RunGraph, RunGraph] | None = (encode, step)
        self._pad_id = artifact.manifest.architecture.pad_token_id
        self._decoder = decoder

    def start(self, sources: Sequence[IntArray]) -> GraphDecoder:
        """Read sources; see Seq2SeqEngine.

        Args:
            sources: Token ids of each.

        Returns:
            What takes the steps of their targets.

        Raises:
            EngineInternalError: The engine is closed.
        """
        if self._graphs is None:
            raise EngineInternalError(f"{self.info.name}: the engine is closed")
        encode, step = self._graphs
        architecture = self._decoder.architecture
        names = cross_names(architecture.num_hidden_layers)

        def read(more: Sequence[IntArray]) -> list[_Source]:
            lengths = [*map(len, more)]
            found: dict[int, _Source] = {}
            budget = max([_READ_TOKENS, *lengths])
            for batch in plan_batches(lengths, max_tokens=budget, is_packed=False):
                shape = (len(batch), lengths[batch[0]])
                ids_BS, mask_BS = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
                for row, index in enumerate(batch):
                    ids_BS[row, : lengths[index]], mask_BS[row, : lengths[index]] = more[index], 1
                given = encode({INPUT_IDS: ids_BS, ATTENTION_MASK: mask_BS})
                arrays = {name: _array(given[name]) for name in names}
                for row, index in enumerate(batch):
                    length = lengths[index]
                    cross = {name: array[row, :length] for name, array in arrays.items()}
                    found[index] = _Source(cross, length)
            return [found[index] for index in range(len(more))]

        return GraphDecoder(
            read,
            step,
            sources,
            architecture=architecture,
            max_target_length=self._decoder.max_target_length,
        )

    def close(self) -> None:
        """Free the graphs. Calling it twice is harmless."""
        self._graphs = None


class GraphDecoder:
    """Takes the steps of some sources' targets: a Seq2SeqDecoder."""

    def __init__(
        self,
        read: Callable[[Sequence[IntArray]], list[_Source]],
        step: RunGraph,
        sources: Sequence[IntArray],
        *,
        architecture: BertConfig,
        max_target_length: int,
    ) -> None:
        """Begin with one empty row a source.

        Args:
            read: Reads sources.
            step: Runs the decoder's graph.
            sources: Those to begin with.
            architecture: That of the decoder.
            max_target_length: Most tokens of a target, the start token included.
        """
        self.max_target_length = max_target_length
        self._read, self._step = read, step
        num_layers = architecture.num_hidden_layers
        self._present = present_names(num_layers)
        heads = architecture.num_attention_heads, architecture.head_dim
        self._past: dict[str, Any] = dict.fromkeys(past_names(num_layers), empty_past(0, *heads))
        self._cross: dict[str, Any] = dict.fromkeys(
            cross_names(num_layers), np.zeros((0, 0, architecture.hidden_size), np.float32)
        )
        self._mask_BS = np.zeros((0, 0), np.int64)
        # Of the sources that go on: those that have no place yet, and the places of the others,
        # which stand in front of them.
        self._waiting: list[_Source] = []
        self._place_of_source = np.zeros(0, np.int64)
        # Of every row of the last step its source, and which tokens in the store are its own.
        self._source_of_row = np.zeros(0, np.int64)
        self._seen_RP = np.zeros((0, 0), np.bool_)
        self._log_probs: FloatArray | None = None
        self.admit(sources)

    def admit(self, sources: Sequence[IntArray]) -> None:
        """Read more sources; see Seq2SeqDecoder.

        Args:
            sources: Token ids of each.
        """
        # They get their places in the next step, which tells who has left.
        known = len(self._place_of_source) + len(self._waiting)
        self._waiting += self._read(sources)
        rows = known + np.arange(len(sources))
        self._source_of_row = np.append(self._source_of_row, rows)
        nothing = np.zeros((len(sources), self._seen_RP.shape[1]), np.bool_)
        self._seen_RP = np.concatenate([self._seen_RP, nothing])

    def step(self, tokens: _Ids, beam_idx: _Ids) -> FloatArray:
        """Read one more token in every row; see StepDecoder.

        Args:
            tokens: What each new row reads, shape (R,), int64.
            beam_idx: Which row of the step before each new row continues, shape (R,), int64.

        Returns:
            Scores of the next token, shape (R, V), float32.
        """
        num_sources = self._keep(self._source_of_row[beam_idx])
        self._forget(self._seen_RP[beam_idx])
        seen_RP = self._seen_RP
        per_source = len(tokens) // num_sources
        shape = (len(self._mask_BS), per_source)
        given = self._step(
            {
                **self._cross,
                **self._past,
                SOURCE_MASK: self._mask_BS,
                INPUT_IDS: self._by_place(tokens, shape),
                POSITION_IDS: self._by_place(seen_RP.sum(axis=1), shape),
                PAST_MASK: self._by_place(seen_RP, (*shape, seen_RP.shape[1])),
            }
        )
        self._past = dict(zip(self._past, (given[name] for name in self._present), strict=True))
        own = np.tile(np.eye(per_source, dtype=np.bool_), (num_sources, 1))
        self._seen_RP = np.concatenate([seen_RP, own], axis=1)
        self._log_probs = self._rows_of(given[LOG_PROBS])
        return np.require(self._rows_of(given[LOGITS]), np.float32, "W")

    def best(self, logits: FloatArray, count: int) -> tuple[FloatArray, npt.NDArray[np.int32]]:
        """Find the best tokens of each row; see RankedStepDecoder.

        Args:
            logits: What the last step returned; the graph gave their log probabilities, too.
            count: How many tokens, at most V.

        Returns:
            Log probabilities, shape (R, count), float32, and tokens, int32.
        """
        assert self._log_probs is not None and len(self._log_probs) == len(logits), "a step's rows"
        return best_of_rows(logits, count, self._log_probs)

    def _keep(self, source_of_row: _Ids) -> int:
        """Go on with the sources that have rows; return how many these are."""
        known = len(self._place_of_source)
        left = np.flatnonzero(np.bincount(source_of_row))
        per_source = len(source_of_row) // len(left)
        assert np.array_equal(source_of_row, np.repeat(left, per_source)), (
            f"beam_idx: got rows of the sources {source_of_row.tolist()}, want those of one source "
            "together, and as many of each"
        )
        waiting = [self._waiting[index] for index in left[left >= known] - known]
        self._place_of_source = self._place_of_source[left[left < known]]
        self._waiting = []
        if waiting:
            self._give_places(waiting)
        num_places = len(self._mask_BS)
        if num_places - len(left) > num_places * _IDLE_SHARE:
            self._close_up()
        self._source_of_row = np.repeat(np.arange(len(left)), per_source)
        return len(left)

    def _give_places(self, sources: Sequence[_Source]) -> None:
        """Write sources where others have left, and behind all places where none is free."""
        is_free = np.ones(len(self._mask_BS), np.bool_)
        is_free[self._place_of_source] = False
        more = max(0, len(sources) - int(is_free.sum()))
        places = np.append(np.flatnonzero(is_free), len(is_free) + np.arange(more))[: len(sources)]
        longest = max(source.length for source in sources)
        size = (len(is_free) + more, max(longest, self._mask_BS.shape[1]))
        if size != self._mask_BS.shape:
            self._mask_BS = _enlarged(self._mask_BS, size)
            for name, array in self._cross.items():
                self._cross[name] = _enlarged(array, size)
        if more:
            for name, value in self._past.items():
                self._past[name] = _enlarged(_array(value), size[:1])
        for place, source in zip(places, sources, strict=True):
            self._mask_BS[place] = np.arange(size[1]) < source.length
            for name, array in source.cross.items():
                self._cross[name][place, : source.length] = array
        self._place_of_source = np.append(self._place_of_source, places)

    def _close_up(self) -> None:
        """Leave out the places that no source has, and the padding that none needs."""
        places = self._place_of_source
        mask_BS = self._mask_BS[places]
        longest = int(mask_BS.sum(axis=1).max())
        self._mask_BS = np.ascontiguousarray(mask_BS[:, :longest])
        for name, array in self._cross.items():
            self._cross[name] = np.ascontiguousarray(array[places, :longest])
        for name, value in self._past.items():
            self._past[name] = _array(value)[places]
        self._place_of_source = np.arange(len(places))

    def _forget(self, seen_RP: npt.NDArray[np.bool_]) -> None:
        """Go on with rows; leave out the tokens that none looks at, once they are many."""
        seen_P = np.flatnonzero(seen_RP.any(axis=0))
        num_past = seen_RP.shape[1]
        if num_past - len(seen_P) > num_past * _IDLE_SHARE:
            seen_RP = seen_RP[:, seen_P]
            for name, value in self._past.items():
                self._past[name] = _array(value)[:, :, seen_P]
        self._seen_RP = seen_RP

    @property
    def _is_in_order(self) -> bool:
        """Whether the sources have all places, in their order."""
        places = self._place_of_source
        return len(places) == len(self._mask_BS) and bool((places[1:] > places[:-1]).all())

    def _by_place(self, array: npt.NDArray[Any], shape: tuple[int, ...]) -> _Ids:
        """Return rows, shape (R, ...), where their sources have places: shape (B, Q, ...)."""
        if self._is_in_order:
            return array.astype(np.int64).reshape(shape)
        spread = np.zeros(shape, np.int64)
        spread[self._place_of_source] = array.reshape(-1, *shape[1:])
        return spread

    def _rows_of(self, value: Any) -> Any:
        """Return the rows of all sources, shape (R, V), of what the graph gave for all places."""
        array = _array(value)
        if not self._is_in_order:
            array = array[self._place_of_source]
        return array.reshape(-1, array.shape[-1])


def _array(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else value.numpy()


def _enlarged(array: Any, sizes: tuple[int, ...]) -> Any:
    """Return an array with these first sizes, filled up with zeros."""
    larger = np.zeros((*sizes, *array.shape[len(sizes) :]), array.dtype)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger


def check_graphs(
    artifact: Artifact,
    decoder_inputs: Mapping[str, Sequence[Any]],
    encoder_outputs: Sequence[str],
    decoder_outputs: Sequence[str],
) -> None:
    """Compare both graphs with what the manifest names and a step needs.

    Args:
        artifact: The artifact.
        decoder_inputs: Names of the decoder's inputs to their declared sizes; those that are not
            fixed are no whole numbers.
        encoder_outputs: Names of the encoder's outputs.
        decoder_outputs: Names of the decoder's outputs.

    Raises:
        ArtifactFormatError: A graph has no output of a name, an input of the past is missing or of
            other sizes than the architecture says, or an earlier version compiled it.
    """
    manifest = artifact.manifest
    decoder = manifest.decoder
    assert decoder is not None, "only artifacts with a decoder are opened so"
    architecture = decoder.architecture
    num_layers = architecture.num_hidden_layers
    if "beam_idx" in decoder_inputs:
        raise ArtifactFormatError(
            f"{manifest.graph('decoder').file}: got an input beam_idx, as earlier versions made "
            "it; compile the checkpoint again"
        )
    for name, got, more in (
        ("encoder", encoder_outputs, cross_names(num_layers)),
        ("decoder", decoder_outputs, (LOGITS, LOG_PROBS, *present_names(num_layers))),
    ):
        entry = manifest.graph(name)
        check_output_names({**entry.outputs, **dict.fromkeys(more, "")}, got, file=entry.file)
    want = [None, architecture.num_attention_heads, None, architecture.head_dim]
    for name in past_names(num_layers):
        declared = decoder_inputs.get(name, ())
        fixed = [size if isinstance(size, int) else None for size in declared]
        if fixed != want:
            raise ArtifactFormatError(
                f"{manifest.graph('decoder').file}: {name}: got an input of sizes {fixed}, want "
                f"{want}"
            )
