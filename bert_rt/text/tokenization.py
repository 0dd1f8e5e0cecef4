"""Text to tokens: a thin wrapper of the `tokenizers` library, and of the module wordpiece.

Four promises that the library alone does not make:

- Every token carries its span in characters of the caller's own string (Python indices). Letters
  that the normalizer drops or rewrites (accents, case, control characters) do not move a span.
- Where white space belongs to tokens, as in byte-level BPE, it does not belong to their spans
  (but for tokens of nothing else). A character of several tokens is in the span of each, whole.
- User text is only text: "[SEP]" written in a context is encoded as the characters it is made of,
  never as the control token that ends a window (the library's `encode_special_tokens`). Tokens
  that a checkpoint's makers added, such as markers of entities, are tokens there.
- Special tokens, truncation and padding are left to the tasks and to packing, whatever
  the tokenizer.json asks for.

Source: spans in the original text as in the tokenization of BERT's run_squad.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import pre_tokenizers, processors

from bert_rt.errors import ArtifactFormatError, CheckpointError, InputError
from bert_rt.support.shutdown import native_call
from bert_rt.text.backend import backend_from_bytes
from bert_rt.text.control_tokens import ControlTokens
from bert_rt.text.token_texts import TokenTexts
from bert_rt.text.word_spans import WordSpans, read_trimming, word_spans
from bert_rt.text.wordpiece import NativeWordPiece
from bert_rt.types import Encoding, IntArray, PairTokens

__all__ = ["Tokenizer", "check_encodable"]

# The token in front, the one behind every text, how many of it stand between two texts: BERT's and
# RoBERTa's way, for files that leave it to the program.
_TEMPLATES = (("[CLS]", "[SEP]", 1), ("<s>", "</s>", 2))
_PADS = ("[PAD]", "<pad>")
_MASKS = ("[MASK]", "<mask>")
_MAX_ID = 2**31 - 1  # ids are int32 from here to the engine
_SPACE = re.compile(r"\s")


def check_encodable(field: str, text: Any) -> None:
    """Check that a text is a str that has a UTF-8 form, which the tokenizer works on.

    Args:
        field: What the text is, for the message.
        text: The caller's value.

    Raises:
        InputError: The value is no str, or it holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(f"{field}: got {type(text).__name__}, want str")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{field}: got the lone surrogate {text[error.start]!a} at character {error.start}, "
            "want text that can be encoded as UTF-8"
        ) from None


class Tokenizer:
    """A model's tokenizer: text to ids and character spans. Thread-safe.

    Attributes:
        cls_id: Id of the token that opens every window: "[CLS]" of BERT, "<s>" of RoBERTa.
        sep_id: Id of the token that ends the question and the context: "[SEP]" or "</s>".
        num_separators: How many of the latter stand between two texts: 1, or RoBERTa's 2.
        second_type_id: Token type of the second of two texts: BERT's 1, RoBERTa's 0.
        vocab_size: One more than the largest id, the least size of an embedding table.
        token_texts: What the tokens are called.
    """

    cls_id: int
    sep_id: int
    num_separators: int
    second_type_id: int
    vocab_size: int

    @property
    def pair_tokens(self) -> PairTokens:
        """What joins two texts, as the functions that make sequences take it."""
        return {
            "cls_id": self.cls_id,
            "sep_id": self.sep_id,
            "num_separators": self.num_separators,
            "second_type_id": self.second_type_id,
        }

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        roles: Mapping[str, str] | None = None,
        special_tokens: Collection[str] = (),
    ) -> None:
        """Take over a tokenizer of the library; truncation and padding are switched off.

        Args:
            backend: The library's tokenizer, which must not be changed afterwards. Its special
                tokens are control tokens.
            roles: "pad_token" and "mask_token", where they have other names than usual.
            special_tokens: Further tokens that are special for decoding.

        Raises:
            ArtifactFormatError: A token that the model needs is not in the vocabulary, an id is
                no int32, or two texts are joined in a way that no supported model has.
        """
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        unknown = getattr(backend.model, "unk_token", None)
        # Found here rather than in the middle of a request, where the library only says so.
        if unknown is not None and backend.model.token_to_id(unknown) is None:
            raise ArtifactFormatError(f"tokenizer: unk_token {unknown!r} is not in the vocabulary")
        self._backend = backend
        self.token_texts = TokenTexts(backend)
        pair = _pair_template(backend)
        self.cls_id, self.sep_id, self.num_separators, self.second_type_id = pair
        roles = roles or {}
        self._pad = _find_token(backend, [roles.get("pad_token", ""), *_PADS])
        self._mask = _find_token(backend, [roles.get("mask_token", ""), *_MASKS])
        self._more_special = [backend.token_to_id(token) for token in special_tokens]
        self._post_processor = backend.post_processor
        # BERT's splits words at white space, so none is left in a token.
        self._trims = not isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        self._trimming = read_trimming(backend.post_processor)
        if self._trims:
            # The library's own trimming, of those that have it, makes spans without a character.
            backend.post_processor = processors.Sequence([])
        vocab = self.get_vocab()
        # A blank line of vocab.txt is a token that no text has.
        last = max(filter(None, vocab), key=vocab.__getitem__)
        self.vocab_size = 1 + vocab[last]
        if vocab[last] > _MAX_ID:
            raise ArtifactFormatError(
                f"tokenizer: token {last!r} has the id {vocab[last]}, want at most {_MAX_ID}"
            )
        self._control = ControlTokens(backend)
        self._native = None if self._control else NativeWordPiece.of(backend, vocab)

    @classmethod
    def from_bytes(cls, tokenizer_json: bytes) -> Tokenizer:
        """Make a tokenizer from the content of a tokenizer.json.

        Args:
            tokenizer_json: The file's bytes.

        Returns:
            The tokenizer.

        Raises:
            ArtifactFormatError: The content is no tokenizer, or one that no model can use.
        """
        return cls(backend_from_bytes(tokenizer_json))

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """Make a tokenizer from a checkpoint directory in the Hugging Face layout.

        Args:
            path: A directory with tokenizer.json, or what it can be made of (see
                bert_rt.text.tokenizer_files).

        Returns:
            The tokenizer.

        Raises:
            CheckpointError: The files are not there, or one is damaged; the message names it.
        """
        # Whoever reads artifacts only does not wait for it.
        from bert_rt.text.tokenizer_files import load_tokenizer_files

        files = load_tokenizer_files(Path(path))
        try:
            return cls(files.backend, roles=files.roles, special_tokens=files.special_tokens)
        except ArtifactFormatError as error:
            raise CheckpointError(f"{files.file}: {error}") from error

    def encode(self, text: str, *, field: str = "text") -> Encoding:
        """Encode one text, without special tokens.

        Args:
            text: Any text; it may encode to no token at all.
            field: What the text is, for error messages.

        Returns:
            Ids of shape (T,) and character spans of shape (T, 2), both int32 and read-only.

        Raises:
            InputError: The text is no str or cannot be encoded as UTF-8.
        """
        check_encodable(field, text)
        with native_call():
            arrays = None if self._native is None else self._native.encode(text)
            if arrays is not None:
                return _frozen(*arrays)
            return self._to_encoding(self._backend.encode(text, add_special_tokens=False), text)

    def encode_batch(self, texts: Sequence[str], *, field: str = "text") -> list[Encoding]:
        """Encode many texts at once; what the library encodes, on all cores and without the GIL.

        A text that comes several times (many questions on one passage) is encoded once.

        Args:
            texts: Any texts.
            field: What the texts are, for error messages, which add the index.

        Returns:
            What encode gives for each text, in order; equal texts share one Encoding.

        Raises:
            InputError: A text is no str or cannot be encoded as UTF-8; none was encoded.
        """
        for index, text in enumerate(texts):
            check_encodable(f"{field}[{index}]", text)
        left = list(dict.fromkeys(texts))
        by_text: dict[str, Encoding] = {}
        with native_call():
            if self._native is not None:
                arrays = zip(left, self._native.encode_batch(left), strict=True)
                by_text = {text: _frozen(*pair) for text, pair in arrays if pair is not None}
                left = [text for text in left if text not in by_text]
            encodings = self._backend.encode_batch(left, add_special_tokens=False)
        by_text |= zip(left, map(self._to_encoding, encodings, left), strict=True)
        return [by_text[text] for text in texts]

    @property
    def pad_id(self) -> int:
        """Id of "[PAD]" or "<pad>"; ArtifactFormatError where there is none."""
        return _the_token(self._pad, _PADS)[1]

    @property
    def mask_id(self) -> int:
        """Id of "[MASK]" or "<mask>"; ArtifactFormatError where there is none."""
        return _the_token(self._mask, _MASKS)[1]

    @property
    def mask_token(self) -> str:
        """What "[MASK]" or "<mask>" is called, for texts that ask for a token."""
        return _the_token(self._mask, _MASKS)[0]

    @property
    def added_tokens(self) -> list[str]:
        """Tokens that are looked for in every text: those that a checkpoint's makers added."""
        added = self._backend.get_added_tokens_decoder().values()
        return [token.content for token in added if not token.special]

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token, special ones included."""
        vocab: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return vocab

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Turn tokens back into text; what the normalizer took away does not come back.

        Args:
            token_ids: Any ids of the vocabulary.
            skip_special_tokens: Whether "[CLS]", "[SEP]" and the like are left out.

        Returns:
            Words with single spaces between them, none before marks such as "." and ",".
        """
        ids = list(token_ids)
        if skip_special_tokens:
            ids = [token_id for token_id in ids if token_id not in self._more_special]
        text: str = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def word_spans(self, text: str, encoding: Encoding) -> WordSpans:
        """Tell words, and spans as programs over the `tokenizers` library see them.

        Args:
            text: Any text.
            encoding: What encode gave for it.

        Returns:
            Words (runs of letters, or marks such as ",") and spans of the same tokens.
        """
        if self._trims or self._is_word_start_V is None:
            with native_call():
                raw = self._backend.encode(text, add_special_tokens=False)
            return word_spans(raw, self._trimming)
        is_start = self._is_word_start_V[encoding.input_ids]
        return WordSpans(encoding.offsets, encoding.offsets, is_start)

    def to_json(self) -> bytes:
        """Return the tokenizer.json of this tokenizer, without truncation and padding."""
        if not self._trims or self._post_processor is None:
            return self._backend.to_str().encode("utf-8")
        backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        backend.post_processor = self._post_processor
        return backend.to_str().encode("utf-8")

    def _to_encoding(self, encoding: tokenizers.Encoding, text: str) -> Encoding:
        """Copy an encoding into arrays."""
        if self._control and self._control.are_in(encoding.ids):
            encoding = self._control.encode(text)
        # np.fromiter over the flattened pairs takes half the time of np.array on a list of tuples.
        count = len(encoding)
        input_ids = np.fromiter(encoding.ids, np.int32, count)
        flat = chain.from_iterable(encoding.offsets)
        offsets = np.fromiter(flat, np.int32, 2 * count).reshape(count, 2)
        if self._trims:
            _trim(offsets, text)
        return _frozen(input_ids, offsets)

    @cached_property
    def _is_word_start_V(self) -> NDArray[np.bool_] | None:
        """By token id: a WordPiece that continues a word says so. None for other models."""
        prefix = getattr(self._backend.model, "continuing_subword_prefix", None)
        if not prefix:
            return None
        table = np.ones(self.vocab_size, np.bool_)
        vocab = self.get_vocab().items()
        table[[index for token, index in vocab if token.startswith(prefix)]] = False
        return table


def _frozen(input_ids: IntArray, offsets: IntArray) -> Encoding:
    """Make an encoding, read-only because equal texts share it."""
    input_ids.flags.writeable = False
    offsets.flags.writeable = False
    return Encoding(input_ids, offsets)


def _find_token(backend: tokenizers.Tokenizer, names: Sequence[str]) -> tuple[str, int] | None:
    """Return the first of some tokens that the vocabulary has, and its id."""
    ids = ((name, backend.token_to_id(name)) for name in names if name)
    return next(((name, token_id) for name, token_id in ids if token_id is not None), None)


def _the_token(found: tuple[str, int] | None, names: Sequence[str]) -> tuple[str, int]:
    if found is None:
        raise ArtifactFormatError(f"tokenizer: token {names[0]!r} is not in the vocabulary")
    return found


def _first_token(backend: tokenizers.Tokenizer, names: Sequence[str]) -> tuple[str, int]:
    return _the_token(_find_token(backend, names), names)


def _pair_template(backend: tokenizers.Tokenizer) -> tuple[int, int, int, int]:
    """Return id in front, id behind, how many stand between two texts, the second one's type."""
    encoding = backend.encode("", "")
    is_special = encoding.special_tokens_mask
    ids = [token_id for token_id, special in zip(encoding.ids, is_special, strict=True) if special]
    if not ids:
        cls_name, cls_id = _first_token(backend, [name for name, _, _ in _TEMPLATES])
        sep_name, count = next((sep, num) for name, sep, num in _TEMPLATES if name == cls_name)
        return cls_id, _first_token(backend, [sep_name])[1], count, int(count == 1)
    if len(ids) not in (3, 4) or len(set(ids[1:])) != 1:
        names = [backend.id_to_token(token_id) for token_id in ids]
        raise ArtifactFormatError(
            f"tokenizer: two texts get the special tokens {names}, want one in front, and one or "
            "two of another kind between the texts and one at the end"
        )
    second_type_id = encoding.type_ids[-1]
    if not 0 <= second_type_id <= 1:
        raise ArtifactFormatError(
            f"tokenizer: the second text gets token type {second_type_id}, want 0 or 1"
        )
    return ids[0], ids[1], len(ids) - 2, second_type_id


def _trim(offsets: IntArray, text: str) -> None:
    """Move spans off the white space at their ends, in place; one of nothing else stays."""
    spaces = [match.start() for match in _SPACE.finditer(text)]
    if not spaces or not len(offsets):
        return
    place = np.arange(len(text), dtype=np.int32)
    next_letter, last_letter = place.copy(), place.copy()
    next_letter[spaces] = len(text)
    last_letter[spaces] = -1
    next_letter = np.minimum.accumulate(next_letter[::-1])[::-1]
    last_letter = np.maximum.accumulate(last_letter)
    starts = next_letter[np.minimum(offsets[:, 0], len(text) - 1)]
    has_letters = starts < offsets[:, 1]
    offsets[has_letters, 0] = starts[has_letters]
    offsets[has_letters, 1] = last_letter[offsets[has_letters, 1] - 1] + 1
