"""An encoder of BERT's family and a BERT decoder in one model: from a source to its target.

The keys of state_dict() are those of Hugging Face's EncoderDecoderModel, but for an encoder that is
no BERT (encoder_decoder_checkpoint renames those) and for the encoder's pooler, which the decoder
does not read and this model does not have.

Shape suffixes: as in bert_rt.model.decoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bert_rt.model.decoder import BertLMHeadModel, DecoderCache
from bert_rt.model.encoder import BertModel, initialize, padding_mask
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig

__all__ = ["CachedDecoder", "EncoderDecoder"]


class EncoderDecoder(nn.Module):
    """Encoder, decoder and, where their widths differ, the projection between them.

    Attributes:
        config: The architecture.
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        """Make and initialize the model, in training mode."""
        super().__init__()
        self.config = config
        self.encoder = BertModel(config.encoder, add_pooling_layer=False)
        self.decoder = BertLMHeadModel(
            config.decoder, tie_word_embeddings=config.tie_word_embeddings
        )
        # A source is one text, and so is a target: all their tokens are of the first type.
        for embeddings in (self.encoder.embeddings, self.decoder.bert.embeddings):
            embeddings.uses_token_types = False
        self.enc_to_dec_proj: nn.Linear | None = None
        if config.is_projected:
            size = config.encoder.hidden_size
            self.enc_to_dec_proj = nn.Linear(size, config.decoder.hidden_size)
            parameters = self.enc_to_dec_proj.named_parameters()
            initialize(parameters, config.decoder.initializer_range)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Restore what is shared, after something has replaced parameters."""
        self.decoder.tie_weights()
        if self.config.tie_encoder_decoder:
            _share(self.encoder, self.decoder.bert)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode sources.

        Args:
            input_ids: Shape (B, S), int64, S at most the config's max_source_length.
            attention_mask: Shape (B, S), int64; 1 to attend to a position, 0 for padding.

        Returns:
            Hidden states of the decoder's width, shape (B, S, D).
        """
        states: Tensor = self.encoder(input_ids, attention_mask, input_ids.new_zeros(1, 1))[0]
        return states if self.enc_to_dec_proj is None else self.enc_to_dec_proj(states)

    def decode(
        self,
        decoder_input_ids: Tensor,
        encoder_states: Tensor,
        attention_mask: Tensor,
        cache: DecoderCache | None = None,
    ) -> Tensor:
        """Score what comes after each token of the targets.

        Args:
            decoder_input_ids: Shape (R, T), int64: decoder_start_token_id, then the target; with
                a cache only the tokens that it does not hold yet. R is a multiple of B, and the
                rows of one source stand together. With the cache at most max_target_length.
            encoder_states: As encode gives them, shape (B, S, D).
            attention_mask: Of the sources, shape (B, S), int64.
            cache: DecoderCache() to begin with; every call adds its tokens to it. None for none.

        Returns:
            logits_RTV.
        """
        source_mask = padding_mask(attention_mask, encoder_states.dtype)
        logits: Tensor = self.decoder(decoder_input_ids, encoder_states, source_mask, cache)
        return logits

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor
    ) -> Tensor:
        """Score targets that are known, as in training.

        Args:
            input_ids: As in encode.
            attention_mask: As in encode.
            decoder_input_ids: Shape (B, T), int64: decoder_start_token_id, then the target without
                its last token. Padding may stand at its end; no token before looks at it.

        Returns:
            logits_BTV: at each position the scores of the target's next token.
        """
        states_BSD = self.encode(input_ids, attention_mask)
        return self.decode(decoder_input_ids, states_BSD, attention_mask)


class CachedDecoder:
    """Decodes a batch of sources step by step: the StepDecoder of bert_rt.generation on torch."""

    def __init__(self, model: EncoderDecoder, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Encode the sources.

        Args:
            model: In eval mode.
            input_ids: As in EncoderDecoder.encode.
            attention_mask: As in EncoderDecoder.encode.
        """
        self.max_target_length = model.config.max_target_length
        self._model = model
        self._mask_BS = attention_mask
        with torch.inference_mode():
            self._states_BSD = model.encode(input_ids, attention_mask)
        self._cache = DecoderCache()
        # Of every row its source, numbered as in the batch that is left.
        self._source_of_row = np.arange(len(input_ids))

    def step(
        self, tokens: npt.NDArray[np.int64], beam_idx: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Read one more token in every row; see StepDecoder.

        Args:
            tokens: What each new row reads, shape (R,), int64.
            beam_idx: Which row of the step before each new row continues, shape (R,), int64.

        Returns:
            Scores of the next token, shape (R, V), float32.
        """
        with torch.inference_mode():
            self._select(beam_idx)
            ids_R1 = torch.from_numpy(tokens)[:, None].to(self._mask_BS.device)
            logits = self._model.decode(ids_R1, self._states_BSD, self._mask_BS, self._cache)
            # A copy, since the caller may change it.
            return np.array(logits[:, -1].float().cpu().numpy())

    def _select(self, beam_idx: npt.NDArray[np.int64]) -> None:
        num_rows = len(self._source_of_row)
        source_of_row = self._source_of_row[beam_idx]
        left = np.flatnonzero(np.bincount(source_of_row))
        per_source = len(beam_idx) // len(left)
        assert np.array_equal(source_of_row, np.repeat(left, per_source)), (
            f"beam_idx: got rows of the sources {source_of_row.tolist()}, want those of one source "
            "together, and as many of each"
        )
        device = self._mask_BS.device
        sources = None
        if len(left) < len(self._mask_BS):
            sources = torch.from_numpy(left).to(device)
            self._mask_BS = self._mask_BS.index_select(0, sources)
            self._states_BSD = self._states_BSD.index_select(0, sources)
        self._source_of_row = np.repeat(np.arange(len(left)), per_source)
        if not np.array_equal(beam_idx, np.arange(num_rows)):
            self._cache.select(torch.from_numpy(beam_idx).to(device), sources)


def _share(encoder: nn.Module, decoder: nn.Module) -> None:
    """Make the encoder's parameters those of the decoder, wherever both have the same name."""
    for name, parameter in decoder.named_parameters():
        *path, leaf = name.split(".")
        module: Any = encoder
        for part in path:
            module = module._modules.get(part) if module is not None else None
        if module is not None:
            setattr(module, leaf, parameter)
