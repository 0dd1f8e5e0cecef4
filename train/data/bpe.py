"""BPE vocabularies of models that write: tokens give the text back, with its case and spaces.

Source: Sennrich et al. 2016, arXiv:1508.07909; the sign for spaces as in SentencePiece, Kudo and
Richardson 2018, arXiv:1808.06226.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from bert_rt.errors import ConfigError, EmptyInputError

__all__ = ["SPECIAL_TOKENS", "train_bpe"]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_bpe(
    texts: Iterable[str], *, vocab_size: int, max_length: int = 512, min_frequency: int = 2
) -> Mapping[str, bytes]:
    """Train a BPE vocabulary. The same texts and sizes give the same bytes.

    A token that begins with "\u2581" follows a space, and punctuation stands alone. Decoding gives
    the text back, but for runs of white space, which become one space, and characters that NFC
    composes.

    Args:
        texts: The training texts.
        vocab_size: Most tokens of the vocabulary, special tokens and single characters included;
            there are fewer where the texts have no more pairs to merge.
        max_length: The longest sequence, as the tokenizer's settings say it.
        min_frequency: A pair of pieces that occurs less often is not merged.

    Returns:
        Contents of tokenizer.json and tokenizer_config.json by name; SPECIAL_TOKENS have the ids
        from 0.

    Raises:
        EmptyInputError: There are no words in the texts.
        ConfigError: The vocabulary is too small to hold the characters.
    """
    backend = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_TOKENS],
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    size = backend.get_vocab_size()
    if size == len(SPECIAL_TOKENS):
        raise EmptyInputError("vocabulary: got no words, want text")
    if size > vocab_size:
        raise ConfigError(
            f"vocab_size: got {vocab_size}, want at least {size} for the characters of the text"
        )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    settings = {
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS},
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return {
        "tokenizer.json": backend.to_str(pretty=False).encode(),
        "tokenizer_config.json": (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode(),
    }


def _untrained() -> Tokenizer:
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    backend.decoder = decoders.Metaspace()
    return backend
