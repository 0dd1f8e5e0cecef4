"""The configuration of an encoder-decoder, as Hugging Face's EncoderDecoderModel writes it."""

from __future__ import annotations

from dataclasses import dataclass

from bert_rt.errors import ConfigError
from bert_rt.model.config import BertConfig, check_int

__all__ = ["DECODER_MODEL_TYPES", "EncoderDecoderConfig"]

# Architectures that have a decoder here.
DECODER_MODEL_TYPES = ("bert",)
# What both parts must have alike, so that they can share weights.
_SHARED_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """An encoder of any architecture, and a BERT decoder that reads its hidden states.

    Attributes:
        encoder: The encoder's architecture; its vocabulary is that of the source.
        decoder: The decoder's architecture; its vocabulary is that of the target.
        decoder_start_token_id: What the decoder reads first, before any token of the target.
        eos_token_id: What ends a target.
        pad_token_id: What fills up targets that are shorter than others of their batch.
        tie_word_embeddings: Whether the decoder's input embeddings are its output projection, too.
        tie_encoder_decoder: Whether the decoder has the encoder's weights, all but those of cross
            attention and of the output's transform.

    Source: Rothe et al. 2020, arXiv:1907.12461, section 3 (BERT2BERT, BERT2RND, BERTSHARE).
    """

    encoder: BertConfig
    decoder: BertConfig
    decoder_start_token_id: int
    eos_token_id: int
    pad_token_id: int
    tie_word_embeddings: bool = True
    tie_encoder_decoder: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range, or the parts do not go together.
        """
        owner = type(self).__name__
        if self.decoder.model_type not in DECODER_MODEL_TYPES:
            raise ConfigError(
                f"{owner}.decoder.model_type: got {self.decoder.model_type!r}, want one of "
                f"{', '.join(DECODER_MODEL_TYPES)}, which have a decoder here"
            )
        last_id = self.decoder.vocab_size - 1
        for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
            check_int(owner, name, getattr(self, name), 0, last_id)
        for name in ("tie_word_embeddings", "tie_encoder_decoder"):
            if not isinstance(getattr(self, name), bool):
                got = getattr(self, name)
                raise ConfigError(f"{owner}.{name}: got {got!r}, want true or false")
        if self.tie_encoder_decoder:
            for name in _SHARED_FIELDS:
                ours, other = getattr(self.encoder, name), getattr(self.decoder, name)
                if ours != other:
                    raise ConfigError(
                        f"{owner}.tie_encoder_decoder: got true, and {name} is {ours!r} in the "
                        f"encoder and {other!r} in the decoder; want them alike"
                    )

    @property
    def is_projected(self) -> bool:
        """Whether the encoder's states have another width than the decoder and are projected."""
        return self.encoder.hidden_size != self.decoder.hidden_size

    @property
    def max_source_length(self) -> int:
        """Longest source in tokens, special tokens included."""
        return self.encoder.max_sequence_length

    @property
    def max_target_length(self) -> int:
        """Longest target in tokens, the start token included."""
        return self.decoder.max_sequence_length
