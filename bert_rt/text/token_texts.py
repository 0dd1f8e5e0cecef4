"""Tokens as their vocabulary writes them, and back to text: for pipelines that show tokens."""

from __future__ import annotations

from collections.abc import Sequence

import tokenizers

from bert_rt.text.word_spans import read_trimming

__all__ = ["TokenTexts"]

_UNKNOWN = ("[UNK]", "<unk>")


class TokenTexts:
    """What the tokens of a vocabulary are called. Thread-safe.

    Attributes:
        unknown_id: Id of the token that stands for unknown text; None where there is none.
        has_prefix: Whether tokens that continue a word begin with a mark, as WordPiece's "##".
        takes_words: Whether words may be encoded one by one: byte-level BPE that adds no space in
            front of a text would take each for the middle of a word.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Look at a tokenizer.

        Args:
            backend: One of the library, its post-processor included.
        """
        self._backend = backend
        model = backend.model
        names = (getattr(model, "unk_token", None), *_UNKNOWN)
        ids = (backend.token_to_id(name) for name in names if name)
        self.unknown_id: int | None = next((i for i in ids if i is not None), None)
        self.has_prefix = bool(getattr(model, "continuing_subword_prefix", None))
        trimming = read_trimming(backend.post_processor)
        self.takes_words = not trimming.is_on or trimming.add_prefix_space

    def names(self, token_ids: Sequence[int]) -> list[str]:
        """Return what the vocabulary calls tokens, such as "##ing"."""
        return [self._backend.id_to_token(token_id) or "" for token_id in token_ids]

    def join(self, names: Sequence[str]) -> str:
        """Return the text of tokens by their names, as the decoder writes it."""
        decoder = self._backend.decoder
        text: str = " ".join(names) if decoder is None else decoder.decode(list(names))
        return text
