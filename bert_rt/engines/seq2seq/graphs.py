"""An encoder-decoder as two graphs, on any library that runs graphs.

Sources are padded to the longest of them. The caches of self-attention go from each step to the
next one as the library gives them; which row continues which is the graph's own work. Rows of
sources that were admitted later are shorter: their caches are padded in front, which no token looks
at.

Shapes: B sources, S padded length, Q rows of each source, R = B * Q rows, P target tokens so far,
N heads, H head dim, D = N * H.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import EngineInfo, check_output_names
from bert_rt.engines.packing import plan_batches
from bert_rt.errors import ArtifactFormatError, EngineInternalError
from bert_rt.support.seq2seq import (
    ATTENTION_MASK,
    BEAM_IDX,
    INPUT_IDS,
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


class GraphSeq2Seq:
    """Decodes sources by two graphs: a Seq2SeqEngine."""

    def __init__(
        self,
        encode: RunGraph,
        step: RunGraph,
        artifact: Artifact,
        info: EngineInfo,
        *,
        past_sizes: Sequence[Any],
    ) -> None:
        """Take over two open graphs.

        Args:
            encode: Runs the encoder's graph.
            step: Runs the decoder's graph.
            artifact: What they are of.
            info: The engine.
            past_sizes: Those of the decoder's past as its graph declares them: rows, N, P, H; or
                rows, P, D in graphs that were compiled earlier.
        """
        decoder = artifact.manifest.decoder
        assert decoder is not None, "only artifacts with a decoder are opened so"
        self.info = info
        self._graphs: tuple[RunGraph, RunGraph] | None = (encode, step)
        self._pad_id = artifact.manifest.architecture.pad_token_id
        self._decoder = decoder
        self._past_sizes = past_sizes

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

        def read(more: Sequence[IntArray]) -> tuple[dict[str, Any], _Ids]:
            lengths = [*map(len, more)]
            shape = (len(more), max(lengths))
            ids_BS, mask_BS = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
            for row, source in enumerate(more):
                ids_BS[row, : len(source)], mask_BS[row, : len(source)] = source, 1
            cross: dict[str, Any] = {}
            budget = max(_READ_TOKENS, *lengths)
            for batch in plan_batches(lengths, max_tokens=budget, is_packed=False):
                place = np.s_[batch, : lengths[batch[0]]]
                ids, mask = (np.ascontiguousarray(array[place]) for array in (ids_BS, mask_BS))
                given = encode({INPUT_IDS: ids, ATTENTION_MASK: mask})
                for name in names:
                    array = _array(given[name])
                    if name not in cross:
                        cross[name] = np.zeros((*shape, array.shape[-1]), np.float32)
                    cross[name][place] = array
            return cross, mask_BS

        return GraphDecoder(
            read,
            step,
            sources,
            past_sizes=self._past_sizes,
            max_target_length=self._decoder.max_target_length,
        )

    def close(self) -> None:
        """Free the graphs. Calling it twice is harmless."""
        self._graphs = None


class GraphDecoder:
    """Takes the steps of some sources' targets: a Seq2SeqDecoder."""

    def __init__(
        self,
        read: Callable[[Sequence[IntArray]], tuple[dict[str, Any], _Ids]],
        step: RunGraph,
        sources: Sequence[IntArray],
        *,
        past_sizes: Sequence[Any],
        max_target_length: int,
    ) -> None:
        """Begin with one empty row a source.

        Args:
            read: Makes of B sources the keys and values of cross attention by name, shape
                (B, S, D) each, and a mask, 1 on their tokens and 0 on padding, shape (B, S).
            step: Runs the decoder's graph.
            sources: Those to begin with.
            past_sizes: As in GraphSeq2Seq.
            max_target_length: Most tokens of a target, the start token included.
        """
        self.max_target_length = max_target_length
        self._read, self._step = read, step
        self._cross, self._mask_BS = read(sources)
        self._num_layers = len(self._cross) // 2
        empty = empty_past(past_sizes, len(sources))
        self._past: dict[str, Any] = dict.fromkeys(past_names(self._num_layers), empty)
        self._num_past = 0
        # Of every row its source, numbered as in the batch that is left, and its tokens so far.
        self._source_of_row = np.arange(len(sources))
        self._length_of_row = np.zeros(len(sources), np.int64)

    def admit(self, sources: Sequence[IntArray]) -> None:
        """Read more sources; see Seq2SeqDecoder.

        Args:
            sources: Token ids of each.
        """
        cross, mask_BS = self._read(sources)
        longest = max(self._mask_BS.shape[1], mask_BS.shape[1])
        for name, array in cross.items():
            self._cross[name] = _stacked(self._cross[name], array, longest)
        known = len(self._mask_BS)
        self._mask_BS = _stacked(self._mask_BS, mask_BS, longest)
        count = len(sources)
        for name, value in self._past.items():
            array = _array(value)
            rows = np.zeros((count, *array.shape[1:]), np.float32)
            self._past[name] = np.concatenate([array, rows])
        self._source_of_row = np.append(self._source_of_row, known + np.arange(count))
        self._length_of_row = np.append(self._length_of_row, np.zeros(count, np.int64))

    def step(self, tokens: _Ids, beam_idx: _Ids) -> FloatArray:
        """Read one more token in every row; see StepDecoder.

        Args:
            tokens: What each new row reads, shape (R,), int64.
            beam_idx: Which row of the step before each new row continues, shape (R,), int64.

        Returns:
            Scores of the next token, shape (R, V), float32.
        """
        shape = (self._keep(self._source_of_row[beam_idx]), -1)
        lengths = self._length_of_row[beam_idx]
        num_past = int(lengths.max())
        if self._num_past > num_past:
            # What only rows that have ended had.
            for name, value in self._past.items():
                array = _array(value)[..., self._num_past - num_past :, :]
                self._past[name] = np.ascontiguousarray(array)
        mask_RP = np.arange(num_past) >= num_past - lengths[:, None]
        ids_BQ = tokens.reshape(shape)
        given = self._step(
            {
                **self._cross,
                **self._past,
                SOURCE_MASK: self._mask_BS,
                INPUT_IDS: ids_BQ,
                BEAM_IDX: beam_idx.reshape(shape),
                POSITION_IDS: lengths.reshape(shape),
                PAST_MASK: mask_RP.astype(np.int64).reshape(*ids_BQ.shape, num_past),
            }
        )
        present = (given[name] for name in present_names(self._num_layers))
        self._past = dict(zip(self._past, present, strict=True))
        self._num_past = num_past + 1
        self._length_of_row = lengths + 1
        logits = np.require(_array(given[LOGITS]), np.float32, "W")
        return logits.reshape(len(tokens), logits.shape[-1])

    def _keep(self, source_of_row: npt.NDArray[np.int_]) -> int:
        """Go on with the sources that have rows; return how many these are."""
        left = np.flatnonzero(np.bincount(source_of_row))
        per_source = len(source_of_row) // len(left)
        assert np.array_equal(source_of_row, np.repeat(left, per_source)), (
            f"beam_idx: got rows of the sources {source_of_row.tolist()}, want those of one source "
            "together, and as many of each"
        )
        if len(left) < len(self._mask_BS):
            mask = self._mask_BS[left]
            # What is left may be shorter than what has gone.
            longest = int(mask.sum(axis=1).max())
            self._mask_BS = np.ascontiguousarray(mask[:, :longest])
            for name, array in self._cross.items():
                self._cross[name] = np.ascontiguousarray(array[left, :longest])
        self._source_of_row = np.repeat(np.arange(len(left)), per_source)
        return len(left)


def _array(value: Any) -> Any:
    return value if isinstance(value, np.ndarray) else value.numpy()


def _stacked(above: Any, below: Any, width: int) -> Any:
    """Put one array below another, both filled up with zeros along their second dimension."""
    rest = [(0, 0)] * (above.ndim - 2)
    parts = (np.pad(x, ((0, 0), (0, width - x.shape[1]), *rest)) for x in (above, below))
    return np.concatenate([*parts])


def check_graphs(
    artifact: Artifact,
    decoder_inputs: Mapping[str, Sequence[Any]],
    encoder_outputs: Sequence[str],
    decoder_outputs: Sequence[str],
) -> Sequence[Any]:
    """Compare both graphs with what the manifest names and a step needs.

    Args:
        artifact: The artifact.
        decoder_inputs: Names of the decoder's inputs to their declared sizes; those that are not
            fixed are no whole numbers.
        encoder_outputs: Names of the encoder's outputs.
        decoder_outputs: Names of the decoder's outputs.

    Returns:
        The sizes of the past: see GraphSeq2Seq.

    Raises:
        ArtifactFormatError: A graph has no output of a name, or an input of the past is missing or
            of other sizes than the architecture says.
    """
    manifest = artifact.manifest
    decoder = manifest.decoder
    assert decoder is not None, "only artifacts with a decoder are opened so"
    architecture = decoder.architecture
    num_layers = architecture.num_hidden_layers
    for name, got, more in (
        ("encoder", encoder_outputs, cross_names(num_layers)),
        ("decoder", decoder_outputs, (LOGITS, *present_names(num_layers))),
    ):
        entry = manifest.graph(name)
        check_output_names({**entry.outputs, **dict.fromkeys(more, "")}, got, file=entry.file)
    by_head = [None, architecture.num_attention_heads, None, architecture.head_dim]
    side_by_side = [None, None, architecture.hidden_size]
    names = past_names(num_layers)
    sizes = {name: decoder_inputs.get(name, ()) for name in names}
    for name, declared in sizes.items():
        fixed = [size if isinstance(size, int) else None for size in declared]
        if fixed not in (by_head, side_by_side) or len(fixed) != len(sizes[names[0]]):
            raise ArtifactFormatError(
                f"{manifest.graph('decoder').file}: {name}: got an input of sizes {fixed}, want "
                f"{by_head} in every layer, or {side_by_side} in every one"
            )
    return sizes[names[0]]
