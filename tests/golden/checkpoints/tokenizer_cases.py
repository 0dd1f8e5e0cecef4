"""Checkpoints of the kinds that reports name, with the tokens that Transformers 4.57.6 gives.

Tokens are written out here, since they are what a reader wants to see; tests/parity compares them
with Transformers itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CASES", "TokenizerCase"]

_VOCAB = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mer", "##kel", "was", "born", "in"),
    *("hamburg", "[", "]", "/", "e", "##1", "co", "##vid", "##19", "m", "##r", "##n", "##a"),
    *("vaccine", "karl", "a", "##\u00df", "cafe", "Karl", "\u4e2d", "\u6587", "the"),
)
_MARKED = "[E1] Merkel [/E1] was born in Hamburg"
_MARKED_TOKENS = "[E1] mer ##kel [/E1] was born in hamburg"
_ACCENTS = "Karl a\u00df Caf\u00e9"
_PANDEMIC = "covid19 mrna vaccine"


@dataclass(frozen=True)
class TokenizerCase:
    """A directory, a text and its tokens.

    Attributes:
        tokens: With single spaces between them.
        text: The text.
        config: tokenizer_config.json; None for no such file.
        files: Further JSON files by name.
        in_json: Tokens that are added in tokenizer.json; None for no such file.
        normalizer: Of tokenizer.json.
        vocab: Lines of vocab.txt.
    """

    tokens: str
    text: str
    config: Mapping[str, Any] | None = None
    files: Mapping[str, Any] = field(default_factory=dict)
    in_json: tuple[str, ...] | None = None
    normalizer: Mapping[str, Any] = field(default_factory=dict)
    vocab: tuple[str, ...] = _VOCAB

    def write(self, directory: Path) -> None:
        """Write the checkpoint's tokenizer files and as much of config.json as they need."""
        directory.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{token}\n" for token in self.vocab)
        (directory / "vocab.txt").write_text(lines, encoding="utf-8")
        files = {"config.json": {"model_type": "bert", "vocab_size": 34}, **self.files}
        if self.config is not None:
            files["tokenizer_config.json"] = dict(self.config)
        if self.in_json is not None:
            files["tokenizer.json"] = self._tokenizer_json()
        for name, values in files.items():
            (directory / name).write_text(json.dumps(values), encoding="utf-8")

    def _tokenizer_json(self) -> dict[str, Any]:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        special = {token: index for index, token in enumerate(self.vocab[:5])}
        special |= {token: len(self.vocab) + i for i, token in enumerate(self.in_json or ())}
        roles = ("[CLS]", "[SEP]")
        ends = [{"SpecialToken": {"id": token, "type_id": 0}} for token in roles]
        text = [{"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB")]
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": index, "content": token, **flags, "special": True}
                for token, index in special.items()
            ],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
                **self.normalizer,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [ends[0], text[0], ends[1]],
                "pair": [ends[0], text[0], ends[1], text[1], ends[1]],
                "special_tokens": {
                    token: {"id": token, "ids": [special[token]], "tokens": [token]}
                    for token in roles
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {token: index for index, token in enumerate(self.vocab)},
            },
        }


def _added(*tokens: str, **flags: bool) -> dict[str, Any]:
    """Return an added_tokens_decoder."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False} | flags
    return {
        str(len(_VOCAB) + i): {"content": t, **flags, "special": flags.get("special", True)}
        for i, t in enumerate(tokens)
    }


_MARKERS = ["[E1]", "[/E1]"]
_UNCASED = {"tokenizer_class": "BertTokenizer"}

CASES: Mapping[str, TokenizerCase] = {
    "markers in tokenizer.json": TokenizerCase(_MARKED_TOKENS, _MARKED, in_json=("[E1]", "[/E1]")),
    "markers as additional special tokens": TokenizerCase(
        _MARKED_TOKENS, _MARKED, {"additional_special_tokens": _MARKERS}
    ),
    "markers as extra special tokens": TokenizerCase(
        _MARKED_TOKENS, _MARKED, {"extra_special_tokens": {"a_token": "[E1]", "b_token": "[/E1]"}}
    ),
    "markers in special_tokens_map.json": TokenizerCase(
        _MARKED_TOKENS,
        _MARKED,
        files={"special_tokens_map.json": {"additional_special_tokens": _MARKERS}},
    ),
    "markers in added_tokens_decoder": TokenizerCase(
        _MARKED_TOKENS, _MARKED, {"added_tokens_decoder": _added("[E1]", "[/E1]")}
    ),
    "markers are no text with split_special_tokens": TokenizerCase(
        "[ e ##1 ] mer ##kel [ / e ##1 ] was born in hamburg",
        _MARKED,
        {"additional_special_tokens": _MARKERS, "split_special_tokens": True},
    ),
    "words in added_tokens.json": TokenizerCase(
        "covid19 mrna vaccine",
        _PANDEMIC,
        files={"added_tokens.json": {"covid19": len(_VOCAB), "mrna": len(_VOCAB) + 1}},
    ),
    "words in added_tokens_decoder": TokenizerCase(
        "covid19 mrna vaccine",
        _PANDEMIC,
        {"added_tokens_decoder": _added("covid19", "mrna", normalized=True, special=False)},
    ),
    "added_tokens_decoder goes over added_tokens.json": TokenizerCase(
        "co ##vid ##19 m ##r ##n ##a vaccine",
        _PANDEMIC,
        {"added_tokens_decoder": {}},
        files={"added_tokens.json": {"covid19": len(_VOCAB), "mrna": len(_VOCAB) + 1}},
    ),
    "a word only as a whole": TokenizerCase(
        "mrna m ##r ##n ##a ##a",
        "mrna mrnaa",
        {"added_tokens_decoder": _added("mrna", single_word=True, special=False)},
    ),
    "do_lower_case goes over tokenizer.json": TokenizerCase(
        "Karl a ##\u00df [UNK]", _ACCENTS, {"do_lower_case": False}, in_json=()
    ),
    "do_lower_case of the class goes over tokenizer.json": TokenizerCase(
        "karl a ##\u00df cafe", _ACCENTS, _UNCASED, in_json=(), normalizer={"lowercase": False}
    ),
    "strip_accents goes over tokenizer.json": TokenizerCase(
        "karl a ##\u00df [UNK]", _ACCENTS, {"strip_accents": False}, in_json=()
    ),
    "tokenize_chinese_chars goes over tokenizer.json": TokenizerCase(
        "[UNK]", "\u4e2d\u6587", {"tokenize_chinese_chars": False}, in_json=()
    ),
    "PreTrainedTokenizerFast leaves tokenizer.json as it is": TokenizerCase(
        "karl a ##\u00df cafe",
        _ACCENTS,
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
        in_json=(),
    ),
    "blank last line": TokenizerCase(
        "covid19 the",
        "covid19 the",
        {"additional_special_tokens": ["covid19"]},
        vocab=(*_VOCAB, ""),
    ),
    "a token that stands twice": TokenizerCase("the the", "the the", vocab=(*_VOCAB, "the")),
}
