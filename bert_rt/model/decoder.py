"""BERT's decoder in PyTorch: causal self-attention, cross-attention, scores over a vocabulary.

It is the encoder's layer with one more attention between its two sublayers, which looks at the
encoder's states; layer norms stand behind the sublayers and positions are learned, as in BERT.
Attributes are named, and nested, so that the keys of state_dict() are those of Hugging Face's
BertLMHeadModel with is_decoder and add_cross_attention.

A cache makes each further token cost as much as one token: it keeps the keys and values of the
tokens so far, and those of the encoder's states, which are computed once. Where several rows
decode one source (the beams of a search), its keys and values are held once for all of them.

Shape suffixes: B sources, R rows (R / B of each source, in its order), S padded source length,
T target tokens of this call, P target tokens so far with those of this call, D hidden, N heads,
H head dim, V vocabulary.

Source: Rothe et al. 2020, arXiv:1907.12461, section 2; Vaswani et al. 2017, arXiv:1706.03762,
section 3.1 (the decoder).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import (
    BertAddNorm,
    BertEmbeddings,
    BertProjections,
    attention,
    initialize,
)
from bert_rt.model.heads import BertLMPredictionHead

__all__ = ["BertDecoderModel", "BertLMHeadModel", "DecoderCache", "LayerCache"]


@dataclass(slots=True)
class LayerCache:
    """Keys and values that one layer keeps.

    Heads stand side by side, as the projections give them: so a graph can be made of a step, and
    whoever keeps a cache need not know how many heads there are.

    Attributes:
        self_keys: Of the tokens so far, shape (R, P, D).
        self_values: The same, values.
        cross_keys: Of the encoder's states, shape (B, S, D).
        cross_values: The same, values.
    """

    self_keys: Tensor
    self_values: Tensor
    cross_keys: Tensor
    cross_values: Tensor


@dataclass(slots=True)
class DecoderCache:
    """What decoding so far has left; empty at first, and filled by each call of the decoder.

    Attributes:
        layers: One entry a layer; none before the first call.
    """

    layers: list[LayerCache] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens so far, in every row."""
        return self.layers[0].self_keys.shape[1] if self.layers else 0

    def select(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Go on with other rows, as a beam search does after each step.

        Args:
            rows: Which of the rows so far each new row continues, shape (R,), int64. Rows of one
                source stand together and are as many for every source.
            sources: Which of the sources go on, shape (B,), int64; None for all, as they stand.
        """
        for layer in self.layers:
            layer.self_keys = layer.self_keys.index_select(0, rows)
            layer.self_values = layer.self_values.index_select(0, rows)
            if sources is not None:
                layer.cross_keys = layer.cross_keys.index_select(0, sources)
                layer.cross_values = layer.cross_values.index_select(0, sources)


class _DecoderAttention(BertProjections):
    """What both attentions of a decoder's layer do."""

    def attend(self, q_BQD: Tensor, k_BSD: Tensor, v_BSD: Tensor, mask: Tensor | None) -> Tensor:
        """Compute attention, with dropout in training.

        Args:
            q_BQD: Queries.
            k_BSD: Keys.
            v_BSD: Values.
            mask: Added to the scores; broadcasts to (B, N, Q, S). None where all may be looked at.

        Returns:
            The heads' results side by side, shape (B, Q, D).
        """
        q, k, v = (
            x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for x in (q_BQD, k_BSD, v_BSD)
        )
        if torch.compiler.is_exporting():
            assert mask is not None, "a graph has masks"
            out_BNQH = attention(q, k, v, mask)
        else:
            dropout_p = self.dropout_prob if self.training else 0.0
            if not self.training:
                # Laid out head by head, as the caches of Transformers are: sums are rounded as
                # there, and of scores that are nearly equal the same one wins.
                k, v = k.contiguous(), v.contiguous()
            out_BNQH = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p)
        return out_BNQH.transpose(1, 2).flatten(-2)


class BertCausalSelfAttention(_DecoderAttention):
    """Every token of the target looks at itself and those before it."""

    def forward(
        self, x_RTD: Tensor, mask: Tensor | None, layer: LayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            x_RTD: Hidden states.
            mask: Added to the scores, shape (T, P) or (R, 1, T, P); None where a token may look at
                all before it.
            layer: Keys and values of the tokens before; None where there are none.

        Returns:
            The heads' results side by side, shape (R, T, D); keys and values with those of these
            tokens, shape (R, P, D).
        """
        k_RPD, v_RPD = self.key(x_RTD), self.value(x_RTD)
        if layer is not None:
            k_RPD = torch.cat([layer.self_keys, k_RPD], dim=1)
            v_RPD = torch.cat([layer.self_values, v_RPD], dim=1)
        return self.attend(self.query(x_RTD), k_RPD, v_RPD, mask), k_RPD, v_RPD


class BertCrossAttention(_DecoderAttention):
    """Every token of the target looks at all of its source."""

    def keys_and_values(self, states_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Project the encoder's states, once for all steps; both of shape (B, S, D)."""
        return self.key(states_BSD), self.value(states_BSD)

    def forward(self, x_RTD: Tensor, k_BSD: Tensor, v_BSD: Tensor, mask_B11S: Tensor) -> Tensor:
        """Attend; rows of one source share its keys and values.

        Args:
            x_RTD: Hidden states; R is a multiple of B.
            k_BSD: As keys_and_values gives them.
            v_BSD: The same, values.
            mask_B11S: Added to the scores.

        Returns:
            The heads' results side by side, shape (R, T, D).
        """
        q_BQD = self.query(x_RTD)
        if q_BQD.shape[0] != k_BSD.shape[0]:
            # All tokens of a source's rows are queries of one attention: no copy of its keys a row.
            q_BQD = q_BQD.reshape(k_BSD.shape[0], -1, k_BSD.shape[-1])
        return self.attend(q_BQD, k_BSD, v_BSD, mask_B11S).reshape(x_RTD.shape)


class BertDecoderLayer(nn.Module):
    """One decoder layer: self-attention, cross-attention, the feed-forward network."""

    def __init__(self, config: BertConfig) -> None:
        """Make the three sublayers."""
        super().__init__()
        self.attention, self.crossattention = (
            nn.ModuleDict(
                {"self": inner(config), "output": BertAddNorm(config, config.hidden_size)}
            )
            for inner in (BertCausalSelfAttention, BertCrossAttention)
        )
        self.intermediate = nn.ModuleDict(
            {"dense": nn.Linear(config.hidden_size, config.intermediate_size)}
        )
        self.output = BertAddNorm(config, config.intermediate_size)

    def forward(
        self,
        x_RTD: Tensor,
        mask: Tensor | None,
        states: Tensor | LayerCache,
        source_mask: Tensor,
    ) -> tuple[Tensor, LayerCache]:
        """Apply the layer.

        Args:
            x_RTD: Hidden states.
            mask: As in BertCausalSelfAttention.forward.
            states: The encoder's states, shape (B, S, D), or the cache of earlier tokens.
            source_mask: Added to the scores of cross-attention, shape (B, 1, 1, S).

        Returns:
            Hidden states of shape (R, T, D), and the cache of all tokens.
        """
        layer = states if isinstance(states, LayerCache) else None
        inner_RTD, keys, values = self.attention["self"](x_RTD, mask, layer)
        x_RTD = self.attention["output"](inner_RTD, x_RTD)
        cross: Any = self.crossattention["self"]
        if isinstance(states, LayerCache):
            cross_keys, cross_values = states.cross_keys, states.cross_values
        else:
            cross_keys, cross_values = cross.keys_and_values(states)
        inner_RTD = cross(x_RTD, cross_keys, cross_values, source_mask)
        x_RTD = self.crossattention["output"](inner_RTD, x_RTD)
        inner_RTF = F.gelu(self.intermediate["dense"](x_RTD))
        out_RTD: Tensor = self.output(inner_RTF, x_RTD)
        return out_RTD, LayerCache(keys, values, cross_keys, cross_values)


class BertDecoderModel(nn.Module):
    """Embeddings and the stack of decoder layers."""

    def __init__(self, config: BertConfig) -> None:
        """Make and initialize the model."""
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(
            BertDecoderLayer(config) for _ in range(config.num_hidden_layers)
        )
        initialize(self.named_parameters(), config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        encoder_states: Tensor,
        source_mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Compute the hidden states of target tokens.

        Args:
            input_ids: Shape (R, T), int64: those that the cache does not hold yet.
            encoder_states: Shape (B, S, D); not read where the cache has their keys and values.
            source_mask: As in BertDecoderLayer.forward.
            cache: Tokens before these; these are added to it. None for no cache.

        Returns:
            Shape (R, T, D).
        """
        num_before = 0 if cache is None else cache.num_tokens
        x_RTD: Tensor = self.embeddings(input_ids, torch.zeros_like(input_ids), num_before)
        num_tokens = input_ids.shape[1]
        mask = None
        if num_tokens > 1:
            # Minus infinity: every token sees at least itself, so no row has nothing to look at.
            size = (num_tokens, num_before + num_tokens)
            blocked = torch.full(size, float("-inf"), dtype=x_RTD.dtype, device=x_RTD.device)
            mask = blocked.triu(num_before + 1)
        made: list[LayerCache] = []
        known = cache.layers if cache is not None and cache.layers else None
        layers: Any = self.encoder.layer
        for index, layer in enumerate(layers):
            states = encoder_states if known is None else known[index]
            x_RTD, layer_cache = layer(x_RTD, mask, states, source_mask)
            made.append(layer_cache)
        if cache is not None:
            cache.layers = made
        return x_RTD


class BertOnlyMLMHead(nn.Module):
    """Scores over the vocabulary, without the next-sentence head of pretraining."""

    def __init__(self, config: BertConfig, word_embeddings: nn.Embedding) -> None:
        """Make the head; the word embeddings serve as its output projection, too."""
        super().__init__()
        self.predictions = BertLMPredictionHead(config, word_embeddings)


class BertLMHeadModel(nn.Module):
    """The decoder with scores over its vocabulary."""

    def __init__(self, config: BertConfig, *, tie_word_embeddings: bool = True) -> None:
        """Make and initialize the model.

        Args:
            config: The decoder's architecture.
            tie_word_embeddings: Whether the input embeddings are the output projection, too.
        """
        super().__init__()
        self.bert = BertDecoderModel(config)
        words = self.bert.embeddings.word_embeddings
        self.cls = BertOnlyMLMHead(config, words)
        self.tie_word_embeddings = tie_word_embeddings
        if not tie_word_embeddings:
            self.cls.predictions.decoder.weight = nn.Parameter(torch.empty_like(words.weight))
        head = self.cls.named_parameters()
        fresh = (item for item in head if item[1] is not words.weight)
        initialize(fresh, config.initializer_range)

    def tie_weights(self) -> None:
        """Restore what is shared, after something has replaced parameters."""
        predictions = self.cls.predictions
        predictions.decoder.bias = predictions.bias
        if self.tie_word_embeddings:
            predictions.decoder.weight = self.bert.embeddings.word_embeddings.weight

    def forward(
        self,
        input_ids: Tensor,
        encoder_states: Tensor,
        source_mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Return logits_RTV; arguments as in BertDecoderModel.forward."""
        x_RTD = self.bert(input_ids, encoder_states, source_mask, cache)
        logits_RTV: Tensor = self.cls.predictions(x_RTD)
        return logits_RTV
