"""Small random encoder-decoder checkpoints, the same ones every time."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_checkpoint import save_encoder_decoder
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig
from tests.support.data.text import SPECIAL_TOKENS, VOCAB, make_tokenizer

TARGET_VOCAB = (*SPECIAL_TOKENS, "der", "die", "das", "katze", "sass", "auf", "##n", ".", ",", "'")
PAD, CLS, SEP = 0, 2, 3
PART = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
)


def make_config(**fields: Any) -> EncoderDecoderConfig:
    """Return an architecture: BERT's tokens, a narrower encoder than decoder unless said."""
    decoder = dataclasses.replace(PART, vocab_size=len(TARGET_VOCAB), hidden_size=24)
    values: dict[str, Any] = {
        "encoder": PART,
        "decoder": decoder,
        "decoder_start_token_id": CLS,
        "eos_token_id": SEP,
        "pad_token_id": PAD,
    }
    return EncoderDecoderConfig(**{**values, **fields})


def make_model(config: EncoderDecoderConfig, seed: int = 0) -> EncoderDecoder:
    """Return a model with large weights, so that it has opinions of its own, in eval mode."""
    model = EncoderDecoder(config).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_scale = key.endswith("LayerNorm.weight")
            values = rng.normal(float(is_scale), 0.05 if is_scale else 0.4, parameter.shape)
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    return model


def tokenizer_files(vocab: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files of a WordPiece tokenizer."""
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    return {
        "tokenizer.json": make_tokenizer(vocab=vocab).to_json(),
        "vocab.txt": "".join(f"{token}\n" for token in vocab).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }


def write_encoder_decoder(path: Path, **generation: Any) -> EncoderDecoder:
    """Write a checkpoint with two tokenizers; return its model."""
    model = make_model(make_config())
    save_encoder_decoder(
        path,
        model,
        tokenizer_files=tokenizer_files(VOCAB),
        decoder_tokenizer_files=tokenizer_files(TARGET_VOCAB),
        generation_config=generation,
    )
    return model
