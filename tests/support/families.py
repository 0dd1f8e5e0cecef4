"""Tiny checkpoints of every architecture, made by Transformers, with tokenizers trained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.support.data.text import VOCAB, write_vocab

_WORDS = "the cat sat on the mat in paris who is unaff a x 42 . where caf\u00e9 na\u00efve"
_SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def write_wordpiece(directory: Path, *, do_lower_case: bool = True) -> int:
    """Write vocab.txt and its options; returns the number of tokens."""
    write_vocab(directory, do_lower_case=do_lower_case)
    return len(VOCAB)


def write_cased(directory: Path) -> int:
    """Write a cased vocab.txt."""
    return write_wordpiece(directory, do_lower_case=False)


def write_byte_level_bpe(directory: Path) -> int:
    """Write vocab.json and merges.txt, as RoBERTa's first checkpoints have them."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_WORDS] * 8, trainer)
    backend.model.save(str(directory))
    return backend.get_vocab_size()


def write_unigram(directory: Path) -> int:
    """Write a tokenizer.json as XLM-RoBERTa's: SentencePiece's unigram model."""
    backend = tokenizers.Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=_SPECIAL_TOKENS, unk_token="<unk>", show_progress=False
    )
    backend.normalizer, backend.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    backend.train_from_iterator([_WORDS] * 8, trainer)
    return _write_sentencepiece(directory, backend)


def write_pieces(directory: Path) -> int:
    """Write a tokenizer.json as write_unigram does, of pieces that are the same every time."""
    words = ["\u2581" + word for word in _WORDS.split()]
    parts = [
        "\u2581",
        *"abcdefghijklmnopqrstuvwxyzTPU",
        "aff",
        "able",
        ".",
        ",",
        "(",
        ")",
        "%",
        "4",
    ]
    pieces = [(token, 0.0) for token in _SPECIAL_TOKENS]
    pieces += [(piece, -2.0 - len(piece) / 64) for piece in dict.fromkeys(words)]
    pieces += [(piece, -5.0 - index / 64) for index, piece in enumerate(parts)]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    return _write_sentencepiece(directory, backend)


def _write_sentencepiece(directory: Path, backend: tokenizers.Tokenizer) -> int:
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    (directory / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    return backend.get_vocab_size()


@dataclass(frozen=True, kw_only=True)
class Family:
    """One architecture: its classes in Transformers start with `prefix`."""

    prefix: str
    write_tokenizer: Callable[[Path], int]
    sizes: dict[str, Any] = field(default_factory=dict)

    def config(self, vocab_size: int, **more: Any) -> Any:
        """Return its configuration in Transformers."""
        make = getattr(transformers, f"{self.prefix}Config")
        return make(vocab_size=vocab_size, **{**self.sizes, **more})

    def model(self, ending: str, config: Any) -> Any:
        """Make a model in which every parameter matters: no bias is 0, and no norm is plain."""
        with torch.random.fork_rng(), torch.no_grad():
            generator = torch.manual_seed(7)
            model = getattr(transformers, f"{self.prefix}{ending}")(config).eval()
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        return model

    def write_checkpoint(self, directory: Path, ending: str = "ForQuestionAnswering") -> Any:
        """Write a checkpoint with tokenizer as Transformers does, and return the model."""
        directory.mkdir(parents=True)
        num_tokens = self.write_tokenizer(directory)
        model = self.model(ending, self.config(num_tokens))
        model.save_pretrained(directory)
        assert "architectures" in json.loads((directory / "config.json").read_bytes())
        return model


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
_ROBERTA = {**_SIZES, "max_position_embeddings": 66, "type_vocab_size": 1, "layer_norm_eps": 1e-5}

FAMILIES = {
    "bert-cased": Family(prefix="Bert", write_tokenizer=write_cased, sizes=_SIZES),
    "distilbert": Family(
        prefix="DistilBert",
        write_tokenizer=write_wordpiece,
        sizes={
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 64,
        },
    ),
    "roberta": Family(prefix="Roberta", write_tokenizer=write_byte_level_bpe, sizes=_ROBERTA),
    "xlm-roberta": Family(prefix="XLMRoberta", write_tokenizer=write_unigram, sizes=_ROBERTA),
    "camembert": Family(
        prefix="Camembert", write_tokenizer=write_unigram, sizes={**_ROBERTA, "type_vocab_size": 2}
    ),
    "electra": Family(
        prefix="Electra", write_tokenizer=write_wordpiece, sizes={**_SIZES, "embedding_size": 16}
    ),
    "electra-base": Family(  # as wide in the embeddings as in the encoder: no projection
        prefix="Electra", write_tokenizer=write_wordpiece, sizes={**_SIZES, "embedding_size": 32}
    ),
}
