"""The files of a checkpoint's tokenizer, and how many token ids they hold.

How they become a tokenizer is the business of bert_rt.text; here they are only counted and kept,
so that a model can be checked against them without the tokenizers library.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_rt.errors import CheckpointError
from bert_rt.model.weights import parse_object

__all__ = ["TOKENIZER_FILES", "check_vocabulary", "read_tokenizer_files", "vocabulary_lines"]

_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
# Those of SentencePiece are not read (tokenizer.json says the same), but kept.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *_SENTENCEPIECE,
)
# Embeddings are often padded to a multiple of this, which matrix products like better.
_PADDED_TO = 64
_log = logging.getLogger(__name__)


def read_tokenizer_files(directory: str | Path) -> dict[str, bytes]:
    """Return the contents of those TOKENIZER_FILES that a directory has, by name."""
    files = (Path(directory) / name for name in TOKENIZER_FILES)
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def vocabulary_lines(content: bytes) -> list[str]:
    """Split vocab.txt into its tokens: one a line, its id is the line's number, from 0.

    Args:
        content: The file: UTF-8, lines that end in LF, CR LF or CR, with or without a byte order
            mark. Blank lines count, also at the end.

    Returns:
        The tokens.

    Raises:
        UnicodeDecodeError: The content is not UTF-8.
    """
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    # Not splitlines, which also splits at characters that are tokens of large vocabularies.
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def check_vocabulary(
    where: Path, files: Mapping[str, bytes], vocab_size: int, *, warn: bool = False
) -> None:
    """Check that a model has an embedding for every token id.

    Args:
        where: The checkpoint, for messages.
        files: Contents by name, as read_tokenizer_files gives them; there may be none.
        vocab_size: Rows of the model's embeddings.
        warn: Whether one warning says so where there are many more rows than ids.

    Raises:
        CheckpointError: There are more ids than embeddings, or a file cannot be read.
    """
    name = next((n for n in ("tokenizer.json", "vocab.txt", "vocab.json") if n in files), None)
    if name is None:
        return
    try:
        ids = _model_ids(where, name, files)
        num_ids = 1 + max(ids.values())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where / name}: no vocabulary in it") from error
    try:
        for token, index in _added_ids(where, files).items():
            # One without an id gets the next one, where the vocabulary does not have it.
            ids.setdefault(token, num_ids if index is None else index)
            num_ids = max(num_ids, 1 + ids[token])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: added tokens: want contents and ids: {error!r}") from error
    if num_ids > vocab_size:
        raise CheckpointError(
            f"{where / name}: got {num_ids} token ids, want at most vocab_size ({vocab_size})"
        )
    is_padded = vocab_size % _PADDED_TO == 0 and vocab_size - num_ids < 2 * _PADDED_TO
    if warn and num_ids < vocab_size and not is_padded:
        _log.warning(
            "%s: %d token ids and vocab_size %d: the model has %d embeddings that no token uses; "
            "is a file of added tokens (added_tokens.json, tokenizer_config.json) missing?",
            where,
            num_ids,
            vocab_size,
            vocab_size - num_ids,
        )


def _model_ids(where: Path, name: str, files: Mapping[str, bytes]) -> dict[str, int]:
    """Return the tokens of the vocabulary file and their ids."""
    if name == "vocab.txt":
        # A blank line is a token that no text has.
        lines = vocabulary_lines(files[name])
        return {token: index for index, token in enumerate(lines) if token}
    raw = parse_object(files[name], where / name)
    if name == "vocab.json":
        return raw
    vocab = raw["model"]["vocab"]
    # A unigram model lists its tokens, with scores, in the order of their ids.
    ids = vocab if isinstance(vocab, dict) else {item[0]: i for i, item in enumerate(vocab)}
    added = {token.get("content", ""): token["id"] for token in raw.get("added_tokens") or ()}
    return {**ids, **added}


def _added_ids(where: Path, files: Mapping[str, bytes]) -> dict[str, int | None]:
    """Return the tokens that stand in other files, and their ids where those are said."""

    def read(file: str) -> dict[str, Any]:
        return parse_object(files[file], where / file) if file in files else {}

    config = read("tokenizer_config.json")
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        added = {item["content"]: int(index) for index, item in decoder.items()}
        lists = [config]
    else:
        added = read("added_tokens.json")
        lists = [config, read("special_tokens_map.json")]
    more: list[Any] = []
    for values in lists:
        for name in ("additional_special_tokens", "extra_special_tokens"):
            tokens = values.get(name) or ()
            more += tokens.values() if isinstance(tokens, dict) else tokens
    contents = (item["content"] if isinstance(item, dict) else item for item in more)
    return {**dict.fromkeys(contents), **added}
