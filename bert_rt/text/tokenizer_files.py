"""Tokenizer files of a checkpoint directory -> a tokenizer of the `tokenizers` library.

tokenizer.json is the library's own form. Older checkpoints have what it is made of instead:
vocab.txt for WordPiece (BERT, DistilBERT, ELECTRA), vocab.json and merges.txt for byte-level BPE
(RoBERTa). The binary models of SentencePiece are not read. What is made of them is what the fast
tokenizers of Transformers 4.57.6 are; tests/parity/test_tokenizers.py compares the two.

Sources: WordPiece, Wu et al. 2016, arXiv:1609.08144; byte-level BPE, Radford et al. 2019 (GPT-2),
section 2.2.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_rt.errors import ArtifactFormatError, CheckpointError
from bert_rt.model.vocabulary import vocabulary_lines
from bert_rt.model.weights import parse_object
from bert_rt.text.added_tokens import add_tokens, control_tokens, mark_control_tokens
from bert_rt.text.backend import backend_from_bytes
from bert_rt.text.tokenizer_settings import TokenizerSettings, read_settings

__all__ = ["TokenizerFiles", "load_tokenizer_files"]

_log = logging.getLogger(__name__)
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
# Option to the field of the library's normalizer.
_NORMALIZER_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """A checkpoint's tokenizer.

    Attributes:
        backend: The library's tokenizer. Its special tokens are the control tokens, which are
            text when they stand in a text; the other added tokens are tokens there.
        file: The file that it was made of.
        roles: Role to token, as tokenizer_settings.ROLES names them.
        special_tokens: All tokens that are special for decoding.
    """

    backend: tokenizers.Tokenizer
    file: Path
    roles: Mapping[str, str]
    special_tokens: frozenset[str]


def load_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read or build the tokenizer of a checkpoint.

    Args:
        directory: A directory with tokenizer.json; or else, as the tokenizer's class says,
            vocab.txt or vocab.json and merges.txt. The other files say what is special, what was
            added and how text is split (see tokenizer_settings).

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: There is none of these, one is damaged, or the tokenizer is of another
            kind; the message names file and field.
    """
    file = directory / "tokenizer.json"
    try:
        content = file.read_bytes() if file.is_file() else None
        try:
            backend = None if content is None else backend_from_bytes(content)
            if backend is None:
                _check_sentencepiece(directory)
            in_json = None if backend is None else backend.get_added_tokens_decoder()
            settings = read_settings(directory, in_json)
            if backend is None or not settings.uses_tokenizer_json:
                file = _vocabulary_file(directory, settings)
                backend = (
                    _wordpiece(file, settings)
                    if file.name == "vocab.txt"
                    else _byte_level_bpe(file, settings)
                )
            backend.no_truncation()
            backend.no_padding()
            control = control_tokens(backend, settings)
            add_tokens(backend, settings, control, directory)
            _set_options(backend, settings, control, file)
            if not settings.gives_token_types:
                _drop_token_types(backend)
        except ArtifactFormatError as error:
            raise CheckpointError(f"{file}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from error
    special = {t.content for t in backend.get_added_tokens_decoder().values() if t.special}
    return TokenizerFiles(
        backend=mark_control_tokens(backend, settings, control, file),
        file=file,
        roles=settings.special_tokens,
        special_tokens=frozenset(special),
    )


def _vocabulary_file(directory: Path, settings: TokenizerSettings) -> Path:
    """Return the file that a tokenizer of this class is made of."""
    files = settings.row.files
    if files and all((directory / name).is_file() for name in files):
        return directory / files[0]
    others = f" or {' and '.join(files)}" if files else ""
    raise CheckpointError(
        f"{directory}: has no tokenizer.json{others}, which a {settings.class_name} is made of"
    )


def _check_sentencepiece(directory: Path) -> None:
    if any((directory / name).is_file() for name in ("vocab.txt", "vocab.json")):
        return
    for name in _SENTENCEPIECE:
        if (directory / name).is_file():
            raise CheckpointError(
                f"{directory}: has {name} and no tokenizer.json, want that one (Transformers "
                "makes it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR))"
            )


def _check_special_tokens(vocab: Mapping[str, int], settings: TokenizerSettings) -> None:
    """Check that the vocabulary has those tokens without which nothing works."""
    wanted = [settings.special_tokens.get(r) for r in ("unk_token", "cls_token", "sep_token")]
    missing = [token for token in dict.fromkeys(wanted) if token not in vocab]
    if missing:
        raise ArtifactFormatError(f"special tokens {missing} are not in the vocabulary")


def _wordpiece(file: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Build BERT's tokenizer of vocab.txt."""
    try:
        lines = vocabulary_lines(file.read_bytes())
    except UnicodeDecodeError as error:
        raise ArtifactFormatError(f"not UTF-8 at byte {error.start}") from error
    # Of a token that stands twice, the last line is its id.
    vocab = {token: index for index, token in enumerate(lines)}
    _check_special_tokens(vocab, settings)
    cls, sep = (settings.special_tokens[role] for role in ("cls_token", "sep_token"))
    unknown = settings.special_tokens["unk_token"]
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", "$A:0", f"{sep}:0", "$B:1", f"{sep}:1"],
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    return backend


def _byte_level_bpe(file: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """Build RoBERTa's tokenizer of vocab.json and merges.txt."""
    vocab = parse_object(file.read_bytes(), file)
    _check_special_tokens(vocab, settings)
    merges = _read_merges(file.with_name("merges.txt"))
    try:
        # Without an unknown token: bytes that the vocabulary does not have are left out.
        backend = tokenizers.Tokenizer(models.BPE(vocab, merges))
    except Exception as error:  # The library raises plain Exception for damage.
        raise ArtifactFormatError(f"with merges.txt: cannot be read: {error}") from error
    cls, sep = (settings.special_tokens[role] for role in ("cls_token", "sep_token"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.RobertaProcessing((sep, vocab[sep]), (cls, vocab[cls]))
    return backend


def _read_merges(file: Path) -> list[tuple[str, str]]:
    """Read merges.txt: a version, and then a pair of pieces a line."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: not UTF-8 at byte {error.start}") from error
    first, *lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # Transformers drops both without a look, and merges with them.
    if not first.startswith("#") or lines[-1:] != [""]:
        raise CheckpointError(
            f"{file}: got {first[:40]!r} to {''.join(lines[-1:])[:40]!r}, want a first line "
            "'#version: 0.2' and a line break at the end"
        )
    merges: dict[tuple[str, str], None] = {}
    for number, line in enumerate(lines[:-1], 2):
        pair = line.split()
        if len(pair) != 2:
            raise CheckpointError(f"{file}:{number}: got {line[:40]!r}, want two pieces")
        merges[pair[0], pair[1]] = None
    return [*merges]


def _set_options(
    backend: tokenizers.Tokenizer, settings: TokenizerSettings, control: set[str], where: Path
) -> None:
    """Give a tokenizer its class's options, which go over what tokenizer.json says."""
    options = settings.options
    if "do_lower_case" in options:
        if backend.normalizer is None:
            raise ArtifactFormatError(f"normalizer: got none, want a {settings.class_name}'s")
        changes = {field: options[name] for name, field in _NORMALIZER_FIELDS.items()}
        before = backend.normalizer
        backend.normalizer = _changed(before, normalizers, changes, where)
        for token in backend.get_added_tokens_decoder().values():
            if not token.normalized or token.content in control:
                continue
            forms = [n.normalize_str(token.content) for n in (before, backend.normalizer)]
            if forms[0] != forms[1]:
                raise ArtifactFormatError(
                    f"added token {token.content!r}: got a normalizer that makes {forms[0]!r} of "
                    f"it, want that of tokenizer_config.json, which makes {forms[1]!r}"
                )
    spaces = {name: options[name] for name in ("add_prefix_space",) if name in options}
    if spaces and backend.pre_tokenizer is not None:
        backend.pre_tokenizer = _changed(backend.pre_tokenizer, pre_tokenizers, spaces, where)
    if "trim_offsets" in options and backend.post_processor is not None:
        spaces["trim_offsets"] = options["trim_offsets"]
        backend.post_processor = _changed(backend.post_processor, processors, spaces, where)


def _drop_token_types(backend: tokenizers.Tokenizer) -> None:
    """Give both of two texts the token type 0."""
    if backend.encode("", "").type_ids[-1:] != [1]:
        return
    state = json.loads(backend.post_processor.__getstate__())
    if state["type"] != "TemplateProcessing":
        raise ArtifactFormatError(
            f"post_processor: got a {state['type']}, want a TemplateProcessing, for a model that "
            "gets no token_type_ids"
        )
    for part in (*state["single"], *state["pair"]):
        for value in part.values():
            value["type_id"] = 0
    content = json.loads(backend.to_str()) | {"post_processor": state}
    backend.post_processor = tokenizers.Tokenizer.from_str(json.dumps(content)).post_processor


def _changed(part: Any, module: Any, changes: Mapping[str, Any], where: Path) -> Any:
    """Return a part of a tokenizer with other values in those of the fields that it has."""
    state = json.loads(part.__getstate__())
    new = {name: value for name, value in changes.items() if state.get(name, value) != value}
    if not new:
        return part
    for field, value in new.items():
        if where.name == "tokenizer.json" and field != "trim_offsets":
            _log.warning(
                "%s: %s is %s by tokenizer_config.json or the tokenizer's class, which go over "
                "the %s of this file, as in Transformers",
                where,
                field,
                value,
                state[field],
            )
    name = state.pop("type")
    if name == "BertNormalizer":
        return module.BertNormalizer(**state | changes)
    state |= new
    if name == "RobertaProcessing":
        spaces = (state["trim_offsets"], state["add_prefix_space"])
        return module.RobertaProcessing(tuple(state["sep"]), tuple(state["cls"]), *spaces)
    return getattr(module, name)(**state)
