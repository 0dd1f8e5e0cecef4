"""Control tokens that a model's own pieces spell: text stays text there, too.

The library's `encode_special_tokens` keeps it from looking for "[SEP]" in a text. But a vocabulary
holds control tokens as pieces: where no rule splits them (SentencePiece's unigram model, which
gives them the best score of all; words that are split at white space only), the model itself makes
the one token of the characters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import tokenizers
from tokenizers import pre_tokenizers

__all__ = ["ControlTokens"]


class ControlTokens:
    """The control tokens of a tokenizer that its model may make of text. Thread-safe."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Find them.

        Args:
            backend: The library's tokenizer, whose special tokens are control tokens.
        """
        self._backend = backend
        model = backend.model
        # "[UNK]" is what unknown text becomes anyway.
        unknown = {getattr(model, "unk_token", None), "<unk>"}
        added = backend.get_added_tokens_decoder().values()
        names = {token.content for token in added if token.special} - unknown
        split = backend.pre_tokenizer
        if isinstance(split, pre_tokenizers.BertPreTokenizer):
            # No piece has punctuation beside a letter in it.
            names = {name for name in names if len(split.pre_tokenize_str(name)) == 1}
        ids = {name: model.token_to_id(name) for name in names}
        self._ids = {name: index for name, index in ids.items() if index is not None}
        self._values = frozenset(self._ids.values())

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._ids)

    def are_in(self, input_ids: Sequence[int]) -> bool:
        """Tell whether the model made control tokens of a text.

        Args:
            input_ids: What the backend gave for the text.

        Returns:
            Whether one of the ids is a control token's.
        """
        return not self._values.isdisjoint(input_ids)

    def encode(self, text: str) -> tokenizers.Encoding:
        """Encode a text, control tokens in it as the characters that they are made of.

        Args:
            text: Any text that can be encoded as UTF-8.

        Returns:
            The library's encoding, without special tokens.
        """
        return self._without.encode(text, add_special_tokens=False)

    @cached_property
    def _without(self) -> tokenizers.Tokenizer:
        """The tokenizer with names for its control tokens that no word can have."""
        content = json.loads(self._backend.to_str())
        model = content["model"]
        # White space is in no word, for all tokenizers of these models split there.
        hidden = {name: f" {name} " for name in self._ids}
        vocab = model["vocab"]
        if isinstance(vocab, dict):
            model["vocab"] = {hidden.get(name, name): index for name, index in vocab.items()}
        else:
            model["vocab"] = [[hidden.get(name, name), score] for name, score in vocab]
        if "merges" in model:
            pairs = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
            model["merges"] = [pair for pair in pairs if not hidden.keys() & {*pair, "".join(pair)}]
        added = content["added_tokens"]
        content["added_tokens"] = [item for item in added if item["content"] not in hidden]
        content["post_processor"] = None
        backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        backend.encode_special_tokens = True
        return backend
