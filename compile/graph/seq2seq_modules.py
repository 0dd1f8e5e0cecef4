"""An encoder-decoder in two parts that can be traced: sources read, and one step of the targets.

The encoder's part ends in the keys and values that every layer's cross attention needs of a
source. The step takes them, and all that decoding so far has left, as its inputs: it has no state.

Shape suffixes: B sources, Q rows of each source, R = B * Q rows, S padded source length, P target
tokens so far, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bert_rt.model.decoder import LayerCache
from bert_rt.model.encoder import padding_mask
from bert_rt.model.encoder_decoder import EncoderDecoder

__all__ = ["DecoderStep", "SourceEncoder"]


class SourceEncoder(nn.Module):
    """From sources to the keys and values of cross attention."""

    def __init__(self, model: EncoderDecoder) -> None:
        """Take a model's weights; none is copied."""
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Read sources.

        Args:
            input_ids: As in EncoderDecoder.encode.
            attention_mask: As in EncoderDecoder.encode.

        Returns:
            Of every decoder layer its keys and its values, shape (B, S, D) each.
        """
        states_BSD = self.model.encode(input_ids, attention_mask)
        layers: Any = self.model.decoder.bert.encoder.layer
        pairs = (layer.crossattention["self"].keys_and_values(states_BSD) for layer in layers)
        return tuple(array for pair in pairs for array in pair)


class DecoderStep(nn.Module):
    """One more token in every row."""

    def __init__(self, model: EncoderDecoder) -> None:
        """Take a model's weights; none is copied."""
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        beam_idx: Tensor,
        past_mask: Tensor,
        source_mask: Tensor,
        cross: Sequence[Tensor],
        past: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Read one token a row.

        Args:
            input_ids: The tokens, shape (B, Q), int64.
            position_ids: How many tokens of its target stand before each of them, (B, Q), int64.
            beam_idx: Which row of the past each row continues, shape (B, Q), int64.
            past_mask: 1 where a row may look at a token of the past that it continues, 0 for
                padding, shape (B, Q, P), int64.
            source_mask: The same of the sources, shape (B, S), int64.
            cross: As SourceEncoder returns them.
            past: Keys and values of the tokens so far, of every layer, as this method has returned
                them; of any number of rows, shape (rows, P, D). P is 0 before the first step.

        Returns:
            Scores of the next token, shape (B, Q, V); and of every layer its keys and values with
            those of this token, shape (R, P + 1, D).
        """
        decoder = self.model.decoder
        x_BQD = decoder.bert.embeddings(input_ids, input_ids.new_zeros(1, 1), position_ids)
        x_R1D = x_BQD.reshape(-1, 1, x_BQD.shape[-1])
        rows = beam_idx.reshape(-1)
        # A token looks at itself, too.
        mask_RP = torch.cat([past_mask, torch.ones_like(input_ids)[:, :, None]], dim=2).flatten(
            0, 1
        )
        mask_R11P = padding_mask(mask_RP, x_R1D.dtype)
        mask_B11S = padding_mask(source_mask, x_R1D.dtype)
        made: list[Tensor] = []
        layers: Any = decoder.bert.encoder.layer
        for i, layer in enumerate(layers):
            keys, values = (past[2 * i + j].index_select(0, rows) for j in (0, 1))
            before = LayerCache(keys, values, cross[2 * i], cross[2 * i + 1])
            x_R1D, after = layer(x_R1D, mask_R11P, before, mask_B11S)
            made += [after.self_keys, after.self_values]
        logits_R1V = decoder.cls.predictions(x_R1D)
        return (logits_R1V.reshape(*input_ids.shape, -1), *made)
