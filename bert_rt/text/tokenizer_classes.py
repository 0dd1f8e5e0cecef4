"""The tokenizer classes of Transformers that are done here: one row each.

Another class of one of these kinds is one more row; every other name is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

__all__ = ["CLASS_OF_MODEL", "REFUSED_FIELDS", "ROLES", "TOKENIZER_CLASSES", "TokenizerClass"]

# In the order in which Transformers adds those that a vocabulary does not have.
ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True, kw_only=True)
class TokenizerClass:
    """A tokenizer class of Transformers, with or without "Fast" at the end of its name.

    Attributes:
        files: What it is made of where there is no tokenizer.json; none: it needs that one.
        special_tokens: The tokens that have a role where the files do not name them.
        additional: Its own further special tokens.
        gives_token_types: Whether the second of two texts has a token type of its own.
        options: What it reads of how to split text, with the values where the files are silent.
    """

    files: tuple[str, ...] = ()
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    additional: tuple[str, ...] = ()
    gives_token_types: bool = True
    options: Mapping[str, bool | None] = field(default_factory=lambda: {"add_prefix_space": False})


_WORDPIECE = TokenizerClass(
    files=("vocab.txt",),
    special_tokens={
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    },
    options={
        "add_prefix_space": False,
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
    },
)
_FAIRSEQ_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_SENTENCEPIECE = TokenizerClass(special_tokens=_FAIRSEQ_TOKENS, gives_token_types=False)
_ANY = TokenizerClass()

TOKENIZER_CLASSES: Mapping[str, TokenizerClass] = MappingProxyType(
    {
        "BertTokenizer": _WORDPIECE,
        "DistilBertTokenizer": replace(_WORDPIECE, gives_token_types=False),
        "ElectraTokenizer": _WORDPIECE,
        "RobertaTokenizer": TokenizerClass(
            files=("vocab.json", "merges.txt"),
            special_tokens=_FAIRSEQ_TOKENS,
            gives_token_types=False,
            options={"add_prefix_space": False, "trim_offsets": True},
        ),
        "XLMRobertaTokenizer": _SENTENCEPIECE,
        "CamembertTokenizer": replace(
            _SENTENCEPIECE,
            additional=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        ),
        # The whole tokenizer is in tokenizer.json.
        "PreTrainedTokenizer": _ANY,
        # What Transformers 5 writes for it.
        "TokenizersBackend": _ANY,
    }
)
CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
}

_JAPANESE = "which splits words as BertJapaneseTokenizer does"
# Fields that make tokens, or sequences of them, other than what is done here: the values with
# which they do not, and what another one means.
REFUSED_FIELDS: Mapping[str, tuple[tuple[Any, ...], str]] = MappingProxyType(
    {
        "do_basic_tokenize": ((True,), "which only slow tokenizers do otherwise"),
        "never_split": ((None, []), "which only slow tokenizers have"),
        "word_tokenizer_type": ((None, "basic"), _JAPANESE),
        "subword_tokenizer_type": ((None, "wordpiece"), _JAPANESE),
        "do_word_tokenize": ((None, True), _JAPANESE),
        "do_subword_tokenize": ((None, True), _JAPANESE),
        "mecab_kwargs": ((None, {}), _JAPANESE),
        "sudachi_kwargs": ((None, {}), _JAPANESE),
        "jumanpp_kwargs": ((None, {}), _JAPANESE),
        "sp_model_kwargs": ((None, {}), "which only slow tokenizers have"),
        "from_slow": ((None, False), "want a tokenizer.json that says the same"),
        "init_inputs": ((None, [], ()), "want named fields"),
        "fast_tokenizer_files": ((None, []), "want one tokenizer.json for every version"),
        "gguf_file": ((None,), "which is not read"),
        "padding_side": ((None, "right"), "which would move every position"),
        "truncation_side": ((None, "right"), "texts are cut off at their ends here"),
    }
)
