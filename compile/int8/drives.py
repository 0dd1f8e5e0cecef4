"""How graphs are run over calibration data: sequences in batches, or targets step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.engines.packing import pack, pad, plan_batches
from bert_rt.support.seq2seq import (
    ATTENTION_MASK,
    INPUT_IDS,
    PAST_MASK,
    POSITION_IDS,
    SOURCE_MASK,
    cross_names,
    empty_past,
    past_names,
    present_names,
)
from bert_rt.types import TokenSequence

__all__ = ["Drive", "Run", "SequenceDrive", "TargetDrive"]

_MAX_BATCH_TOKENS = 2048
_MAX_BATCH_PAIRS = 64


@dataclass(frozen=True, slots=True)
class Run:
    """What a graph gave in one run.

    Attributes:
        outputs: By name.
        is_token: Shape (B, S), bool: which places of outputs per token are no padding.
        num_samples: Samples that are done with it.
    """

    outputs: Mapping[str, NDArray[np.float32]]
    is_token: NDArray[np.bool_]
    num_samples: int


class Drive(ABC):
    """Calibration data of one graph."""

    @property
    @abstractmethod
    def num_samples(self) -> int:
        """Number of samples."""

    @abstractmethod
    def first(self, count: int) -> Drive:
        """Return a drive over the first samples."""

    @abstractmethod
    def run(self, session: Any) -> Iterator[Run]:
        """Run all samples.

        Args:
            session: A session of ONNX Runtime on the graph, perhaps with more outputs.

        Yields:
            What every run gave.
        """


@dataclass(frozen=True)
class SequenceDrive(Drive):
    """Sequences, padded to the longest of their batch.

    Attributes:
        sequences: The sequences.
        pad_id: Id of the padding token.
    """

    sequences: Sequence[TokenSequence]
    pad_id: int

    @property
    def num_samples(self) -> int:
        """Number of sequences."""
        return len(self.sequences)

    def first(self, count: int) -> SequenceDrive:
        """Return a drive over the first sequences."""
        return SequenceDrive(self.sequences[:count], self.pad_id)

    def run(self, session: Any) -> Iterator[Run]:
        """Run the graph batch by batch; see Drive."""
        lengths = [sequence.num_tokens for sequence in self.sequences]
        # A model for long texts may have windows that are longer than the budget.
        max_tokens = max(_MAX_BATCH_TOKENS, *lengths)
        names = {value.name for value in session.get_inputs()}
        for batch in plan_batches(lengths, max_tokens=max_tokens, is_packed=False):
            packed = pack([self.sequences[index] for index in batch], max_tokens=sum(lengths))
            ids_BS, mask_BS, types_BS = pad(packed, self.pad_id)
            feeds = {INPUT_IDS: ids_BS, ATTENTION_MASK: mask_BS, "token_type_ids": types_BS}
            feeds = {name: array for name, array in feeds.items() if name in names}
            yield Run(_outputs(session, feeds), mask_BS.astype(bool), len(batch))


@dataclass(frozen=True)
class TargetDrive(Drive):
    """Targets that are known, read token by token; an encoder's graph reads their sources.

    Attributes:
        encoder: A session of ONNX Runtime on the encoder's graph.
        sources: The sources, special tokens included.
        targets: The targets, from the start token on.
        pad_id: Id of the source's padding token.
        num_layers: Layers of the decoder.
    """

    encoder: Any = field(repr=False)
    sources: Sequence[TokenSequence]
    targets: Sequence[Sequence[int]]
    pad_id: int
    num_layers: int

    @property
    def num_samples(self) -> int:
        """Number of pairs."""
        return len(self.sources)

    def first(self, count: int) -> TargetDrive:
        """Return a drive over the first pairs."""
        pairs = self.sources[:count], self.targets[:count]
        return TargetDrive(self.encoder, *pairs, self.pad_id, self.num_layers)

    def run(self, session: Any) -> Iterator[Run]:
        """Run the step graph token by token; see Drive."""
        for first in range(0, len(self.sources), _MAX_BATCH_PAIRS):
            batch = slice(first, first + _MAX_BATCH_PAIRS)
            yield from self._steps(session, self.sources[batch], self.targets[batch])

    def _steps(
        self, session: Any, sources: Sequence[TokenSequence], targets: Sequence[Sequence[int]]
    ) -> Iterator[Run]:
        lengths = np.array([len(target) for target in targets])
        packed = pack(sources, max_tokens=sum(source.num_tokens for source in sources))
        ids_BS, mask_BS, _ = pad(packed, self.pad_id)
        names = cross_names(self.num_layers)
        cross = self.encoder.run(list(names), {INPUT_IDS: ids_BS, ATTENTION_MASK: mask_BS})
        feeds: dict[str, Any] = dict(zip(names, cross, strict=True)) | {SOURCE_MASK: mask_BS}
        names = past_names(self.num_layers)
        sizes = {value.name: value.shape for value in session.get_inputs()}
        _, num_heads, _, head_dim = sizes[names[0]]
        past = dict.fromkeys(names, empty_past(len(targets), num_heads, head_dim))
        rows_B1 = np.arange(len(targets))[:, None]
        for step in range(lengths.max()):
            # Behind its end a target repeats its last token, which is not looked at.
            tokens = [target[min(step, len(target) - 1)] for target in targets]
            feeds |= past | {
                INPUT_IDS: np.array(tokens, np.int64)[:, None],
                POSITION_IDS: np.full_like(rows_B1, step),
                PAST_MASK: np.ones((len(targets), 1, step), np.int64),
            }
            outputs = _outputs(session, feeds)
            present = (outputs[name] for name in present_names(self.num_layers))
            past = dict(zip(past, present, strict=True))
            yield Run(
                outputs, (step < lengths)[:, None], int(np.count_nonzero(lengths == step + 1))
            )


def _outputs(session: Any, feeds: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
