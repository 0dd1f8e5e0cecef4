"""Tokenizer files of a checkpoint directory -> a tokenizer of the `tokenizers` library.

tokenizer.json is the library's own form. Older checkpoints have what it is made of instead:
vocab.txt for WordPiece (BERT, DistilBERT, ELECTRA), vocab.json and merges.txt for byte-level BPE
(RoBERTa). The binary models of SentencePiece are not read.

Sources: WordPiece, Wu et al. 2016, arXiv:1609.08144; byte-level BPE, Radford et al. 2019 (GPT-2),
section 2.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_rt.errors import ArtifactFormatError, CheckpointError

__all__ = ["backend_from_bytes", "backend_from_directory"]

_CLS, _SEP, _PAD, _MASK, _UNK = "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"
_BPE_SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_WORDPIECE_OPTIONS: Mapping[str, bool | None] = {
    "do_lower_case": True,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
}
_BPE_OPTIONS: Mapping[str, bool | None] = {"add_prefix_space": False}
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")


def backend_from_bytes(tokenizer_json: bytes) -> tokenizers.Tokenizer:
    """Read a tokenizer.json.

    Args:
        tokenizer_json: The file's bytes.

    Returns:
        The library's tokenizer.

    Raises:
        ArtifactFormatError: The library cannot read it.
    """
    try:
        return tokenizers.Tokenizer.from_buffer(tokenizer_json)
    except Exception as error:  # The library raises plain Exception for some damage.
        raise ArtifactFormatError(f"tokenizer.json: cannot be read: {error}") from error


def backend_from_directory(directory: Path) -> tuple[tokenizers.Tokenizer, Path]:
    """Read or build the tokenizer of a checkpoint.

    Args:
        directory: A directory with tokenizer.json; or else vocab.txt; or else vocab.json and
            merges.txt. Without tokenizer.json, tokenizer_config.json says how text is split:
            do_lower_case, strip_accents and tokenize_chinese_chars, or add_prefix_space.

    Returns:
        The library's tokenizer, and the file that it was made of.

    Raises:
        CheckpointError: There is none of these, or one is damaged; the message names it.
    """
    file = directory / "tokenizer.json"
    try:
        if file.is_file():
            return backend_from_bytes(file.read_bytes()), file
        file = directory / "vocab.txt"
        if file.is_file():
            return _wordpiece(_read_vocab(file), _read_options(directory, _WORDPIECE_OPTIONS)), file
        file = directory / "vocab.json"
        if file.is_file() and (directory / "merges.txt").is_file():
            return _byte_level_bpe(directory, _read_options(directory, _BPE_OPTIONS)), file
    except (ArtifactFormatError, OSError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    for name in _SENTENCEPIECE:
        if (directory / name).is_file():
            raise CheckpointError(
                f"{directory}: has {name} and no tokenizer.json, want that one (Transformers "
                "makes it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR))"
            )
    raise CheckpointError(
        f"{directory}: has neither tokenizer.json nor vocab.txt nor vocab.json with merges.txt"
    )


def _read_vocab(file: Path) -> dict[str, int]:
    """Read vocab.txt: one token a line, its id is the number of the (last such) line, from 0."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ArtifactFormatError(f"not UTF-8 at byte {error.start}") from error
    if lines[-1] == "":
        lines.pop()
    return {token: index for index, token in enumerate(lines)}


def _read_options(directory: Path, defaults: Mapping[str, bool | None]) -> dict[str, bool | None]:
    """Read how to split text from tokenizer_config.json; the defaults where it is silent."""
    file = directory / "tokenizer_config.json"
    options = dict(defaults)
    if not file.is_file():
        return options
    try:
        values = json.loads(file.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: got {type(values).__name__}, want an object")
    for name, default in defaults.items():
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


def _byte_level_bpe(directory: Path, options: dict[str, bool | None]) -> tokenizers.Tokenizer:
    """Build RoBERTa's tokenizer, as Transformers does for a checkpoint without tokenizer.json."""
    try:
        vocab, merges = models.BPE.read_file(
            str(directory / "vocab.json"), str(directory / "merges.txt")
        )
        backend = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    except Exception as error:  # The library raises plain Exception for damage.
        raise ArtifactFormatError(f"with merges.txt: cannot be read: {error}") from error
    missing = [token for token in _BPE_SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise ArtifactFormatError(f"special tokens {missing} are not in the vocabulary")
    backend.add_special_tokens([*_BPE_SPECIAL_TOKENS])
    add_prefix_space = bool(options["add_prefix_space"])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", vocab["</s>"]), ("<s>", vocab["<s>"]), True, add_prefix_space
    )
    return backend
