"""BERT's WordPiece by the native module: six times as fast as the library on SQuAD's texts.

Beside the native engine with AMX, the `tokenizers` library takes a sixth of the engine's time
(docs/adr/0003-native-wordpiece.md). The native module knows words of plain ASCII only, which is
what text in English mostly consists of: runs of other words (accents, dashes, quotation marks,
control characters) go to the library one by one, and a text with many of them as a whole. White
space in ASCII is where texts may be cut, for no step of the tokenizer looks beyond it: the result
is the library's. A text in which tokens that a checkpoint's makers added may stand is the library's
as a whole, too.

Source: greedy longest match as in Wu et al. 2016, arXiv:1609.08144, and BERT's tokenization.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from bert_rt.types import IntArray

__all__ = ["NativeWordPiece"]

_MAX_CHARS = 256  # of a word: the native module's own limit
_MAX_ADDED = 64  # with more, looking for them takes the time that is won


class NativeWordPiece:
    """A BERT tokenizer of the library, and its native double for plain words. Thread-safe."""

    def __init__(
        self, backend: tokenizers.Tokenizer, native: Any, added: re.Pattern[str] | None
    ) -> None:
        """Join the two; see `of`.

        Args:
            backend: The library's tokenizer.
            native: bert_rt._native.WordPiece of the same vocabulary.
            added: Finds what may be an added token in words of plain ASCII.
        """
        self._backend = backend
        self._native = native
        self._added = added

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer, vocab: Mapping[str, int]) -> NativeWordPiece | None:
        """Make the native double of a tokenizer.

        Args:
            backend: The library's tokenizer, in which special tokens in a text are only text.
            vocab: The id of every token, those that were added included.

        Returns:
            The double, or None where the tokenizer is no BERT's or there is no native module.
        """
        model, normalizer = backend.model, backend.normalizer
        if not (
            isinstance(model, models.WordPiece)
            and isinstance(normalizer, normalizers.BertNormalizer)
            and normalizer.clean_text
            and isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
            and model.max_input_chars_per_word <= _MAX_CHARS
        ):
            return None
        # Those that are not special are looked for in every text: as they are, or normalized.
        added = {
            normalizer.normalize_str(token.content) if token.normalized else token.content
            for token in backend.get_added_tokens_decoder().values()
            if not token.special
        }
        # One with white space in it may stand across the places where texts are cut.
        if len(added) > _MAX_ADDED or any(not t or re.search(r"\s", t) for t in added):
            return None
        # Tokens that were only added are no pieces of words.
        vocab = dict(vocab)
        for token in backend.get_added_tokens_decoder().values():
            if model.token_to_id(token.content) is None:
                vocab.pop(token.content, None)
        if model.unk_token not in vocab:  # the library says so where a word is unknown
            return None
        try:
            from bert_rt import _native
        except ImportError:
            return None
        native = _native.WordPiece(
            list(vocab),
            list(vocab.values()),
            prefix=model.continuing_subword_prefix,
            unknown_id=vocab[model.unk_token],
            max_chars=model.max_input_chars_per_word,
            lowercase=normalizer.lowercase,
        )
        # The others need a character that the native module does not read.
        plain = sorted(re.escape(token) for token in added if token.isascii())
        flags = re.IGNORECASE if normalizer.lowercase else re.RegexFlag(0)
        return cls(backend, native, re.compile("|".join(plain), flags) if plain else None)

    def encode(self, text: str) -> tuple[IntArray, IntArray] | None:
        """Encode one text, without special tokens.

        Args:
            text: Any text that can be encoded as UTF-8.

        Returns:
            Ids of shape (T,) and character spans of shape (T, 2), both int32; None where the
            library had better encode the whole text.
        """
        found = self._encode(text)
        if found is None:
            return None
        input_ids, offsets, rests = found
        runs = (text[begin:end] for _, begin, end in rests)
        encodings = (self._backend.encode(run, add_special_tokens=False) for run in runs)
        return _join(input_ids, offsets, rests, encodings)

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[IntArray, IntArray] | None]:
        """Encode texts, those runs that are left to the library on all cores."""
        found = [self._encode(text) for text in texts]
        runs = [
            text[begin:end]
            for text, one in zip(texts, found, strict=True)
            if one is not None
            for _, begin, end in one[2]
        ]
        encodings = iter(self._backend.encode_batch(runs, add_special_tokens=False))
        return [None if one is None else _join(one[0], one[1], one[2], encodings) for one in found]

    def _encode(self, text: str) -> Any:
        if self._added is not None and self._added.search(text):
            return None
        return self._native.encode(text)


def _join(
    input_ids: IntArray,
    offsets: IntArray,
    rests: Sequence[tuple[int, int, int]],
    encodings: Iterator[tokenizers.Encoding],
) -> tuple[IntArray, IntArray]:
    """Put the library's tokens between those of the native module.

    Args:
        input_ids: Shape (T,), int32: what the native module gave.
        offsets: Shape (T, 2), int32.
        rests: What it left: before which of its tokens, first character, end.
        encodings: Gives the library's encoding of each of these, and is asked for no more.

    Returns:
        Ids and spans of all tokens, in order.
    """
    if not rests:
        return input_ids, offsets
    all_ids, all_offsets, done = [], [], 0
    for (at, begin, _), encoding in zip(rests, encodings, strict=False):
        spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        all_ids += [input_ids[done:at], np.array(encoding.ids, np.int32)]
        all_offsets += [offsets[done:at], spans + np.int32(begin)]
        done = at
    all_ids.append(input_ids[done:])
    all_offsets.append(offsets[done:])
    return np.concatenate(all_ids), np.concatenate(all_offsets)
