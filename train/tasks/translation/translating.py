"""Held-out texts translated by a model in training, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bert_rt.engines.packing import plan_batches
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import generate
from bert_rt.model.encoder_decoder import CachedDecoder, EncoderDecoder
from train.data.batching import Padding

__all__ = ["translate"]

# Of the sources of a batch; each has a row for every beam.
_BATCH_TOKENS = 2048


def translate(
    model: EncoderDecoder,
    sources: Sequence[NDArray[np.int64]],
    *,
    num_beams: int,
    length_penalty: float = 1.0,
    max_length: int,
) -> list[list[int]]:
    """Translate texts.

    Args:
        model: In eval mode.
        sources: Tokens of the texts, special tokens included.
        num_beams: Beams of the search; 1 is greedy.
        length_penalty: As in GenerationConfig.
        max_length: Most tokens of a translation, start and end included.

    Returns:
        Tokens of each translation, special tokens included.
    """
    names = ("decoder_start_token_id", "pad_token_id")
    config = GenerationConfig(
        **{name: getattr(model.config, name) for name in names},
        eos_token_ids=(model.config.eos_token_id,),
        num_beams=num_beams,
        length_penalty=length_penalty,
        max_length=max_length,
    )
    device = next(model.parameters()).device
    padding = Padding(model.config.max_source_length)
    results: list[list[int]] = [[] for _ in sources]
    lengths = [len(source) for source in sources]
    for batch in plan_batches(lengths, max_tokens=_BATCH_TOKENS, is_packed=False):
        rows = [sources[i] for i in batch]
        ids_BS, mask_BS = (
            torch.from_numpy(padding.rectangle(part, fill)).to(device)
            for part, fill in (
                (rows, model.config.encoder.pad_token_id),
                ([np.ones_like(row) for row in rows], 0),
            )
        )
        found = generate(CachedDecoder(model, ids_BS, mask_BS), len(rows), config)
        for i, (best, *_) in zip(batch, found, strict=True):
            results[i] = [*best.token_ids]
    return results
