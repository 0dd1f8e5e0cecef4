"""What decides how a checkpoint's text is split, beside its vocabulary: read, or refused by name.

Four files say it: tokenizer_config.json, special_tokens_map.json, added_tokens.json and
config.json. Which of them goes first, and over tokenizer.json, is as in Transformers 4.57.6
(AutoTokenizer, fast tokenizers); docs/checkpoints.md lists every field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import AddedToken

from bert_rt.errors import CheckpointError
from bert_rt.model.architectures import ARCHITECTURES
from bert_rt.model.weights import parse_object
from bert_rt.text.tokenizer_classes import (
    CLASS_OF_MODEL,
    REFUSED_FIELDS,
    ROLES,
    TOKENIZER_CLASSES,
    TokenizerClass,
)

__all__ = ["TokenizerSettings", "read_settings"]

_CONFIG = "tokenizer_config.json"
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """What the files say beside the vocabulary.

    Attributes:
        class_name: The tokenizer class, without "Fast".
        row: What that class is.
        options: Value of each of the class's options.
        special_tokens: Role to token, in the order of ROLES; those without a token are left out.
        additional: Further special tokens.
        named: Special tokens that have a name of their own.
        added: Id to token: what is added to the vocabulary or stands in it already.
        splits_special: Whether all special tokens are text when they stand in a text.
        gives_token_types: Whether the second of two texts has a token type of its own; true for
            models that have none.
        uses_tokenizer_json: False where tokenizer_config.json takes it away (its tokenizer_file
            is null).
    """

    class_name: str
    row: TokenizerClass
    options: Mapping[str, bool | None]
    special_tokens: Mapping[str, str]
    additional: tuple[str | AddedToken, ...]
    named: tuple[str | AddedToken, ...]
    added: Mapping[int, AddedToken]
    splits_special: bool
    gives_token_types: bool
    uses_tokenizer_json: bool


def read_settings(
    directory: Path, in_tokenizer_json: Mapping[int, AddedToken] | None
) -> TokenizerSettings:
    """Read everything but the vocabulary.

    Args:
        directory: The checkpoint.
        in_tokenizer_json: The added tokens of tokenizer.json by id; None where there is no such
            file.

    Returns:
        The settings.

    Raises:
        CheckpointError: A file is damaged, or a field has a value that is not done here; the
            message names file and field.
    """
    values = _read(directory, _CONFIG)
    class_name, row = _class(directory, values, in_tokenizer_json is not None)
    for name, (harmless, reason) in REFUSED_FIELDS.items():
        if name in values and values[name] not in harmless:
            _refuse(directory / _CONFIG, name, values[name], f"{harmless[-1]!r}; {reason}")
    added: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in values:
        added = _decoder(directory / _CONFIG, values["added_tokens_decoder"])
    else:
        values = _with_special_tokens_map(directory, values)
        added = _added_tokens(directory, values) | dict(in_tokenizer_json or {})
    special, additional, named = _special_tokens(directory / _CONFIG, values, row)
    splits = values.get("split_special_tokens", False)
    if not isinstance(splits, bool):
        _refuse(directory / _CONFIG, "split_special_tokens", splits, "true or false")
    return TokenizerSettings(
        class_name=class_name,
        row=row,
        options=_options(directory / _CONFIG, values, row),
        special_tokens=special,
        additional=additional,
        named=named,
        added=dict(sorted(added.items())),
        splits_special=splits,
        gives_token_types=_gives_token_types(directory, values, row),
        uses_tokenizer_json=_uses_tokenizer_json(directory / _CONFIG, values),
    )


def _refuse(file: Path, name: str, got: object, want: str) -> NoReturn:
    raise CheckpointError(f"{file}: {name}: got {got!r}, want {want}")


def _read(directory: Path, name: str) -> dict[str, Any]:
    file = directory / name
    return parse_object(file.read_bytes(), file) if file.is_file() else {}


def _class(
    directory: Path, values: dict[str, Any], has_tokenizer_json: bool
) -> tuple[str, TokenizerClass]:
    """Return the tokenizer's class: as tokenizer_config.json, config.json or model_type says."""
    config = _read(directory, "config.json")
    for name, fields in ((_CONFIG, values), ("config.json", config)):
        own = fields.get("auto_map")
        if isinstance(own, dict):
            own = own.get("AutoTokenizer")
        if own:
            _refuse(directory / name, "auto_map", own, "none: a checkpoint's own code is not run")
        given = fields.get("tokenizer_class")
        if given is not None:
            class_name = str(given).removesuffix("Fast")
            row = TOKENIZER_CLASSES.get(class_name) if isinstance(given, str) else None
            if row is None:
                _refuse(
                    directory / name, "tokenizer_class", given, f"one of {_names()}, or with Fast"
                )
            return class_name, row
    if not (directory / "config.json").is_file():
        return _class_of_files(directory, has_tokenizer_json)
    # As in read_config, a configuration without a model_type is BERT's.
    model_type = _encoder_part(config).get("model_type") or "bert"
    if not isinstance(model_type, str) or model_type not in CLASS_OF_MODEL:
        _refuse(directory / "config.json", "model_type", model_type, ", ".join(CLASS_OF_MODEL))
    class_name = CLASS_OF_MODEL[model_type]
    return class_name, TOKENIZER_CLASSES[class_name]


def _class_of_files(directory: Path, has_tokenizer_json: bool) -> tuple[str, TokenizerClass]:
    """Return the class of a directory that is no checkpoint, as train.vocab writes it."""
    if has_tokenizer_json:
        return "tokenizer", TokenizerClass(options={})
    for name in ("BertTokenizer", "RobertaTokenizer"):
        row = TOKENIZER_CLASSES[name]
        if all((directory / file).is_file() for file in row.files):
            return name, row
    raise CheckpointError(
        f"{directory}: has neither tokenizer.json nor vocab.txt nor vocab.json with merges.txt"
    )


def _encoder_part(config: dict[str, Any]) -> dict[str, Any]:
    """Return what config.json says of the model that reads texts."""
    part = config.get("encoder")
    is_pair = config.get("model_type") == "encoder-decoder" and isinstance(part, dict)
    return part if is_pair and part is not None else config


def _names() -> str:
    return ", ".join(TOKENIZER_CLASSES)


def _gives_token_types(directory: Path, values: Mapping[str, Any], row: TokenizerClass) -> bool:
    config = _encoder_part(_read(directory, "config.json"))
    architecture = ARCHITECTURES.get(config.get("model_type", "bert"))
    if architecture is None or architecture.token_types != "learned":
        return True
    names = values.get("model_input_names")
    if names is None:
        return row.gives_token_types
    if not isinstance(names, list) or "input_ids" not in names or "attention_mask" not in names:
        want = "a list with 'input_ids' and 'attention_mask'"
        _refuse(directory / _CONFIG, "model_input_names", names, want)
    return "token_type_ids" in names


def _uses_tokenizer_json(file: Path, values: Mapping[str, Any]) -> bool:
    for name in ("tokenizer_file", "vocab_file", "merges_file"):
        if values.get(name) is not None:
            _refuse(file, name, values[name], "none: the files have the names of their kind")
    return "tokenizer_file" not in values


def _with_special_tokens_map(directory: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with those of special_tokens_map.json over them."""
    file = directory / "special_tokens_map.json"
    merged = dict(values)
    for name, value in _read(directory, file.name).items():
        if isinstance(value, dict):
            value = _token(file, name, value | {"special": True})
        elif name == "additional_special_tokens" and isinstance(value, list):
            before = merged.get(name) or []
            if not isinstance(before, list):
                _refuse(directory / _CONFIG, name, before, "a list")
            for item in value:
                token = item
                if isinstance(item, dict):
                    token = _token(file, name, item | {"special": True})
                if not any(_is_same(token, other) for other in before):
                    before = [*before, token]
            value = before
        merged[name] = value
    return merged


def _is_same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _added_tokens(directory: Path, values: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Read added_tokens.json: token to id."""
    file = directory / "added_tokens.json"
    special = {_content(values[name]) for name in ROLES if values.get(name)}
    special |= {_content(token) for token in values.get("additional_special_tokens") or ()}
    added = {}
    for content, index in _read(directory, file.name).items():
        is_special = content in special
        added[_id(file, index)] = AddedToken(content, normalized=not is_special, special=is_special)
    return added


def _content(token: object) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _decoder(file: Path, values: object) -> dict[int, AddedToken]:
    """Read added_tokens_decoder: id to token."""
    if not isinstance(values, dict):
        _refuse(file, "added_tokens_decoder", values, "an object")
    added = {}
    for index, item in values.items():
        if not index.isdecimal():
            _refuse(file, "added_tokens_decoder", index, "ids")
        added[_id(file, int(index))] = _token(file, "added_tokens_decoder", item)
    return added


def _id(file: Path, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        _refuse(file, "added tokens", value, "an id from 0 to 2147483647")
    return value


def _token(file: Path, name: str, value: object) -> AddedToken:
    """Make an added token of its JSON form."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        _refuse(file, name, value, "an object with content, lstrip, rstrip, ...")
    flags = {flag: value[flag] for flag in _FLAGS if flag in value}
    for flag, given in flags.items():
        if not isinstance(given, bool):
            _refuse(file, f"{name}.{flag}", given, "true or false")
    try:
        return AddedToken(value["content"], **flags)
    except UnicodeEncodeError:
        _refuse(file, f"{name}.content", value["content"], "text that UTF-8 can hold")


def _special_tokens(
    file: Path, values: Mapping[str, Any], row: TokenizerClass
) -> tuple[dict[str, str], tuple[str | AddedToken, ...], tuple[str | AddedToken, ...]]:
    """Return the tokens that have a role, additional ones, and those with their own names."""

    def given(name: str, value: object) -> str | AddedToken:
        if isinstance(value, str | AddedToken):
            return value
        if isinstance(value, dict) and value.get("__type") == "AddedToken":
            return _token(file, name, value)
        _refuse(file, name, value, "a token: a string, or an object of __type AddedToken")

    roles = {}
    for name in ROLES:
        value = values.get(name, row.special_tokens.get(name))
        if value is not None and str(token := given(name, value)):
            roles[name] = _content_of(token)
    more = values.get("additional_special_tokens", row.additional)
    if not isinstance(more, list | tuple | None):
        _refuse(file, "additional_special_tokens", more, "a list")
    additional = tuple(given("additional_special_tokens", item) for item in more or ())
    # An object of named tokens; Transformers 5 writes a list.
    named = values.get("extra_special_tokens", {})
    if not isinstance(named, dict | list):
        _refuse(file, "extra_special_tokens", named, "an object or a list")
    items: Sequence[Any] = [*named.values()] if isinstance(named, dict) else named
    return roles, additional, tuple(given("extra_special_tokens", item) for item in items)


def _content_of(token: str | AddedToken) -> str:
    return token if isinstance(token, str) else str(token.content)


def _options(file: Path, values: Mapping[str, Any], row: TokenizerClass) -> dict[str, bool | None]:
    options = {}
    for name, default in row.options.items():
        value = values.get(name, default)
        if not isinstance(value, bool) and not (name == "strip_accents" and value is None):
            _refuse(file, name, value, "true or false")
        options[name] = value
    return options
