"""An encoder-decoder in two parts that can be traced: sources read, and one step of the targets.

The encoder's part ends in the keys and values that every layer's cross attention needs of a
source. The step takes them, and all that decoding so far has left, as its inputs: it has no state.

The rows of a source share one store of keys and values, to which every step adds those of its
tokens, and a mask says which of them are the tokens of a row's target. So a search that goes on
with other rows copies nothing: it gives another mask.

Shape suffixes: B sources, Q rows of each source, S padded source length, P tokens in the store of
each source, D hidden, V vocabulary.
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
        past_mask: Tensor,
        source_mask: Tensor,
        cross: Sequence[Tensor],
        past: Sequence[Tensor],
    ) -> tuple[Tensor, ...]:
        """Read one token a row.

        Args:
            input_ids: The tokens, shape (B, Q), int64.
            position_ids: How many tokens of its target stand before each of them, (B, Q), int64.
            past_mask: 1 where a token of the store is one of the row's target, else 0, shape
                (B, Q, P), int64.
            source_mask: 1 on a source's tokens, 0 on padding, shape (B, S), int64.
            cross: As SourceEncoder returns them.
            past: The stores of every layer, its keys and its values, as this method has returned
                them, shape (B, P, D). P is 0 before the first step.

        Returns:
            Scores of the next token and their log probabilities, shape (B, Q, V) each; and of every
            layer the stores with the keys and values of these tokens, shape (B, P + Q, D).
        """
        decoder = self.model.decoder
        x_BQD = decoder.bert.embeddings(input_ids, input_ids.new_zeros(1, 1), position_ids)
        # Of the tokens of this step a row looks at its own.
        row_Q = torch.arange(input_ids.shape[1])
        own_BQQ = (row_Q[:, None] == row_Q).to(past_mask.dtype).expand(input_ids.shape[0], -1, -1)
        mask_B1QP = padding_mask(torch.cat([past_mask, own_BQQ], dim=2), x_BQD.dtype)
        mask_B11S = padding_mask(source_mask, x_BQD.dtype)
        made: list[Tensor] = []
        layers: Any = decoder.bert.encoder.layer
        for i, layer in enumerate(layers):
            before = LayerCache(past[2 * i], past[2 * i + 1], cross[2 * i], cross[2 * i + 1])
            x_BQD, after = layer(x_BQD, mask_B1QP, before, mask_B11S)
            made += [after.self_keys, after.self_values]
        logits_BQV = decoder.cls.predictions(x_BQD)
        return (logits_BQV, logits_BQV.log_softmax(-1), *made)
