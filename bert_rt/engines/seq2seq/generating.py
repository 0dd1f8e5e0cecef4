"""An engine that writes, behind the scheduler: whole searches, batch by batch or step by step.

Each sequence is a source, and says by its `options` how its targets are searched. They come back as
arrays: token_ids, the targets' tokens, best first, filled up with -1; and scores, their scores, NaN
where a source has fewer targets than another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from bert_rt.artifact.decoder import DecoderEntry
from bert_rt.engines.base import EngineInfo
from bert_rt.engines.packing import unpack
from bert_rt.engines.seq2seq.base import Seq2SeqEngine
from bert_rt.engines.seq2seq.writing import SCORES, TOKEN_IDS, Writing, arrays_of
from bert_rt.generation.search import Hypothesis
from bert_rt.support.outputs import PER_SEQUENCE
from bert_rt.types import Outputs, PackedBatch

__all__ = ["GeneratingEngine", "hypotheses_of"]

_OUTPUTS = MappingProxyType({TOKEN_IDS: PER_SEQUENCE, SCORES: PER_SEQUENCE})
# Rows that are decoded together: their caches bound the memory, and more are hardly quicker.
_MAX_ROWS = 256


class GeneratingEngine:
    """Searches for the targets of the sources in a batch."""

    def __init__(self, engine: Seq2SeqEngine, decoder: DecoderEntry) -> None:
        """Take over an engine.

        Args:
            engine: The open engine.
            decoder: What the artifact says of its decoder.
        """
        self._engine = engine
        # What a source gets that does not say: the least that shows that the engine works.
        self._least = decoder.generation.updated(
            {"num_beams": 1, "num_return_sequences": 1, "max_new_tokens": 1, "min_new_tokens": 0}
        )

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        return self._engine.info

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return _OUTPUTS

    def begin(self) -> Writing:
        """Begin a run that sources join and leave; see SteppingEngine."""
        return Writing(self._engine, self._least, max_rows=_MAX_ROWS)

    def run(self, batch: PackedBatch) -> Outputs:
        """Search for the targets of every source.

        Args:
            batch: The sources; its options are of the class Asked, or None.

        Returns:
            token_ids of shape (B, N, L) and scores of shape (B, N), float32.

        Raises:
            EngineInternalError: The library underneath failed, or the engine is closed.
        """
        sources = unpack(batch.input_ids, batch.cu_seqlens)
        writing = self.begin()
        writing.take([*zip(sources, batch.options or (None,) * len(sources), strict=True)])
        return arrays_of([hypotheses_of(outputs) for outputs in writing.finish()])

    def close(self) -> None:
        """Close the engine. Calling it twice is harmless."""
        self._engine.close()


def hypotheses_of(outputs: Outputs) -> list[Hypothesis]:
    """Return the targets of one sequence, best first.

    Args:
        outputs: What a scheduler gave for it: token_ids (N, L) and scores (N,).

    Returns:
        The targets.
    """
    return [
        Hypothesis(tuple(row[row >= 0].astype(np.int64).tolist()), float(score))
        for row, score in zip(outputs[TOKEN_IDS], outputs[SCORES], strict=True)
        if not np.isnan(score)
    ]
