"""Text to tokens: a thin wrapper of the `tokenizers` library.

Three promises that the library alone does not make:

- Every token carries its span in characters of the caller's own string (Python indices). Letters
  that the normalizer drops or rewrites (accents, case, control characters) do not move a span.
- User text is only text: "[SEP]" written in a context is encoded as the characters it is made of,
  never as the special token that ends a window (the library's `encode_special_tokens`).
- Special tokens, truncation and padding are left to bert_rt.features and bert_rt.packing, whatever
  the tokenizer.json asks for.

Source: WordPiece as in Wu et al. 2016, arXiv:1609.08144, and BERT's run_squad.py tokenization.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_rt.errors import ArtifactFormatError, CheckpointError, InputError
from bert_rt.types import Encoding

__all__ = ["Tokenizer", "check_encodable"]

_CLS, _SEP, _PAD, _MASK, _UNK = "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"


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
    """BERT's tokenizer: text to ids and character spans. Thread-safe.

    Attributes:
        cls_id: Id of "[CLS]", which opens every window.
        sep_id: Id of "[SEP]", which ends the question and the context.
        pad_id: Id of "[PAD]".
        mask_id: Id of "[MASK]".
        vocab_size: One more than the largest id, the least size of an embedding table.
    """

    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    vocab_size: int

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        """Take over a tokenizer of the library; truncation and padding are switched off.

        Args:
            backend: The library's tokenizer, which must not be changed afterwards.

        Raises:
            ArtifactFormatError: A token that BERT needs is not in the vocabulary.
        """
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        unknown = getattr(backend.model, "unk_token", None)
        # Found here rather than in the middle of a request, where the library only says so.
        if unknown is not None and backend.token_to_id(unknown) is None:
            raise ArtifactFormatError(f"tokenizer: unk_token {unknown!r} is not in the vocabulary")
        self._backend = backend
        self.cls_id = self._special_id(_CLS)
        self.sep_id = self._special_id(_SEP)
        self.pad_id = self._special_id(_PAD)
        self.mask_id = self._special_id(_MASK)
        self.vocab_size = 1 + max(backend.get_vocab(with_added_tokens=True).values())

    @classmethod
    def from_bytes(cls, tokenizer_json: bytes) -> Tokenizer:
        """Make a tokenizer from the content of a tokenizer.json.

        Args:
            tokenizer_json: The file's bytes.

        Returns:
            The tokenizer.

        Raises:
            ArtifactFormatError: The content is no tokenizer, or one that BERT cannot use.
        """
        try:
            backend = tokenizers.Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # The library raises plain Exception for some damage.
            raise ArtifactFormatError(f"tokenizer.json: cannot be read: {error}") from error
        return cls(backend)

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """Make a tokenizer from a checkpoint directory in the Hugging Face layout.

        Args:
            path: A directory with tokenizer.json, or else vocab.txt (and tokenizer_config.json,
                whose do_lower_case, strip_accents and tokenize_chinese_chars are honoured).

        Returns:
            The tokenizer.

        Raises:
            CheckpointError: Neither file is there, or one is damaged; the message names it.
        """
        directory = Path(path)
        file = directory / "tokenizer.json"
        try:
            if file.is_file():
                return cls.from_bytes(file.read_bytes())
            file = directory / "vocab.txt"
            if file.is_file():
                return cls(_wordpiece(_read_vocab(file), _read_options(directory)))
        except (ArtifactFormatError, OSError) as error:
            raise CheckpointError(f"{file}: {error}") from error
        raise CheckpointError(f"{directory}: has neither tokenizer.json nor vocab.txt")

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
        return _to_encoding(self._backend.encode(text, add_special_tokens=False))

    def encode_batch(self, texts: Sequence[str], *, field: str = "text") -> list[Encoding]:
        """Encode many texts at once, on all cores and without the GIL.

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
        distinct = list(dict.fromkeys(texts))
        encodings = self._backend.encode_batch(distinct, add_special_tokens=False)
        by_text = dict(zip(distinct, map(_to_encoding, encodings), strict=True))
        return [by_text[text] for text in texts]

    def to_json(self) -> bytes:
        """Return the tokenizer.json of this tokenizer, without truncation and padding."""
        return self._backend.to_str().encode("utf-8")

    def _special_id(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        if token_id is None:
            raise ArtifactFormatError(f"tokenizer: token {token!r} is not in the vocabulary")
        return token_id


def _to_encoding(encoding: tokenizers.Encoding) -> Encoding:
    """Copy an encoding into arrays, read-only because equal texts share them."""
    # np.fromiter over the flattened pairs takes half the time of np.array on a list of tuples.
    count = len(encoding)
    input_ids = np.fromiter(encoding.ids, np.int32, count)
    flat = chain.from_iterable(encoding.offsets)
    offsets = np.fromiter(flat, np.int32, 2 * count).reshape(count, 2)
    input_ids.flags.writeable = False
    offsets.flags.writeable = False
    return Encoding(input_ids=input_ids, offsets=offsets)


def _read_vocab(file: Path) -> dict[str, int]:
    """Read vocab.txt: one token a line, its id is the number of the (last such) line, from 0."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactFormatError(f"not UTF-8 at byte {error.start}") from error
    if lines[-1] == "":
        lines.pop()
    return {token: index for index, token in enumerate(lines)}


def _read_options(directory: Path) -> dict[str, bool | None]:
    """Read how to normalize text from tokenizer_config.json; BERT's defaults where it is silent."""
    file = directory / "tokenizer_config.json"
    options: dict[str, bool | None] = {
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
    }
    if not file.is_file():
        return options
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: got {type(values).__name__}, want an object")
    for name, default in options.items():
        value = values.get(name, default)
        if not isinstance(value, bool) and not (name == "strip_accents" and value is None):
            raise CheckpointError(f"{file}: {name}: got {value!r}, want true or false")
        options[name] = value
    return options


def _wordpiece(vocab: dict[str, int], options: dict[str, bool | None]) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer, as Transformers does for a checkpoint without tokenizer.json."""
    missing = [token for token in (_UNK, _CLS, _SEP, _PAD, _MASK) if token not in vocab]
    if missing:
        raise ArtifactFormatError(f"special tokens {missing} are not in the vocabulary")
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=_UNK))
    backend.add_special_tokens([_PAD, _UNK, _CLS, _SEP, _MASK])
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(options["tokenize_chinese_chars"]),
        strip_accents=options["strip_accents"],
        lowercase=bool(options["do_lower_case"]),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{_CLS} $A {_SEP}",
        pair=f"{_CLS} $A {_SEP} $B:1 {_SEP}:1",
        special_tokens=[(_CLS, vocab[_CLS]), (_SEP, vocab[_SEP])],
    )
    return backend
