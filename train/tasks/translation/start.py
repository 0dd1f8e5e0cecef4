"""What training for translation starts from: a model, new or not, and both tokenizers.

    a checkpoint of an encoder-decoder      is trained further
    a checkpoint of an encoder              gets a new decoder
    the name of a size, or a CONFIG.json    all is new

New vocabularies are learnt from the training pairs.

Source: Rothe et al. 2020, arXiv:1907.12461, section 3 (BERT2RND); a decoder of fewer layers than
the encoder as in Kasai et al. 2020, arXiv:2006.10369.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bert_rt.errors import CheckpointError
from bert_rt.model.checkpoint import read_config, read_raw_config, read_tokenizer_files
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder_decoder import EncoderDecoder
from bert_rt.model.encoder_decoder_checkpoint import (
    ENCODER_DECODER,
    initialize_encoder,
    load_encoder_decoder,
    read_target_tokenizer_files,
)
from bert_rt.model.encoder_decoder_config import EncoderDecoderConfig
from bert_rt.tasks.translation.pairs import SentencePair
from bert_rt.text.tokenization import Tokenizer
from train.data.bpe import train_bpe
from train.sizes import new_config
from train.tasks.base import Setup
from train.tasks.translation.task import Options

__all__ = ["Start", "find_start"]

# Matrix products like it better than odd numbers.
_PADDED_TO = 64


@dataclass(frozen=True, slots=True)
class Start:
    """What a run starts with.

    Attributes:
        model: The model.
        source_files: The source's tokenizer, contents by name.
        target_files: The target's; the same where one tokenizer serves both.
        raw_config: All of config.json of an encoder-decoder that is trained further.
        generation_config: Its generation_config.json.
    """

    model: EncoderDecoder
    source_files: Mapping[str, bytes]
    target_files: Mapping[str, bytes]
    raw_config: Mapping[str, Any] = field(default_factory=dict)
    generation_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """The source's tokenizer and the target's."""
        return tokenizer_of(self.source_files), tokenizer_of(self.target_files)


def tokenizer_of(files: Mapping[str, bytes]) -> Tokenizer:
    """Make a tokenizer of its files, contents by name; raises CheckpointError."""
    with TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        return Tokenizer.from_directory(directory)


def find_start(setup: Setup, pairs: Sequence[SentencePair]) -> Start:
    """Load or make the model of a run.

    Args:
        setup: What the run is made of; new weights depend on its seed.
        pairs: The training pairs, which new vocabularies are made of.

    Returns:
        The model in training mode, and its tokenizers.

    Raises:
        CheckpointError: A checkpoint cannot be read.
        ConfigError: A new vocabulary is too small, or a CONFIG.json is damaged.
    """
    directory = setup.weights_dir or setup.model_dir
    if directory.is_dir() and read_raw_config(directory)[1].get("model_type") == ENCODER_DECODER:
        loaded = load_encoder_decoder(directory)
        files = read_tokenizer_files(directory)
        return Start(
            loaded.model.train(),
            files,
            read_target_tokenizer_files(directory) or files,
            loaded.raw_config,
            loaded.generation_config,
        )
    options: Options = setup.options
    target_files = train_bpe((pair.target for pair in pairs), vocab_size=options.target_vocab_size)
    if setup.model_dir.is_dir():
        encoder, _ = read_config(setup.model_dir)
        source_files: Mapping[str, bytes] = read_tokenizer_files(setup.model_dir)
        if not source_files:
            raise CheckpointError(f"{setup.model_dir}: no tokenizer in it")
        model = _new_model(encoder, source_files, target_files, setup)
        initialize_encoder(model, setup.model_dir)
    else:
        source_files = train_bpe(
            (pair.source for pair in pairs), vocab_size=options.source_vocab_size
        )
        encoder, _ = new_config(str(setup.model_dir))
        encoder = replace(encoder, vocab_size=_padded_size(source_files))
        model = _new_model(encoder, source_files, target_files, setup)
    return Start(model, source_files, target_files)


def _new_model(
    encoder: BertConfig,
    source_files: Mapping[str, bytes],
    target_files: Mapping[str, bytes],
    setup: Setup,
) -> EncoderDecoder:
    """Make a model; its decoder is a BERT of the encoder's proportions."""
    options: Options = setup.options
    tokenizer = tokenizer_of(target_files)
    width = options.decoder_hidden_size or encoder.hidden_size
    decoder = BertConfig(
        vocab_size=_padded_size(target_files),
        hidden_size=width,
        num_hidden_layers=options.decoder_layers,
        num_attention_heads=max(1, width // encoder.head_dim),
        intermediate_size=max(1, encoder.intermediate_size * width // encoder.hidden_size),
        hidden_dropout_prob=encoder.hidden_dropout_prob,
        attention_probs_dropout_prob=encoder.attention_probs_dropout_prob,
        max_position_embeddings=max(512, setup.limits.max_target_length),
        type_vocab_size=1,
        initializer_range=encoder.initializer_range,
        layer_norm_eps=encoder.layer_norm_eps,
        pad_token_id=tokenizer.pad_id,
    )
    torch.manual_seed(setup.seed)
    model = EncoderDecoder(
        EncoderDecoderConfig(
            encoder=encoder,
            decoder=decoder,
            decoder_start_token_id=tokenizer.cls_id,
            eos_token_id=tokenizer.sep_id,
            pad_token_id=tokenizer.pad_id,
        )
    )
    return model.train()


def _padded_size(files: Mapping[str, bytes]) -> int:
    return -(-tokenizer_of(files).vocab_size // _PADDED_TO) * _PADDED_TO
