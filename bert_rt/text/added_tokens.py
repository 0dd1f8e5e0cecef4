"""Tokens that are added to a vocabulary: in which order, and which of them are control tokens.

The order is that of Transformers 4.57.6, since it gives the ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken

from bert_rt.errors import CheckpointError
from bert_rt.text.tokenizer_settings import TokenizerSettings

__all__ = ["add_tokens", "control_tokens", "mark_control_tokens"]

# What is a control token where the tokenizer's class does not say.
_USUAL_CONTROL = frozenset(
    ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "<s>", "</s>", "<pad>", "<mask>", "<unk>")
)


def control_tokens(backend: tokenizers.Tokenizer, settings: TokenizerSettings) -> set[str]:
    """Find the tokens that the model itself works with.

    Args:
        backend: The library's tokenizer, before anything is added.
        settings: Say which tokens have a role.

    Returns:
        Those with a role, those around a pair of texts, the unknown token; where the tokenizer's
        class names none, those of the usual names, too.
    """
    control = {*settings.special_tokens.values()}
    if unknown := getattr(backend.model, "unk_token", None):
        control.add(unknown)
    encoding = backend.encode("", "")
    is_special = encoding.special_tokens_mask
    control |= {t for t, special in zip(encoding.tokens, is_special, strict=True) if special}
    if not settings.row.special_tokens:
        added = backend.get_added_tokens_decoder().values()
        control |= _USUAL_CONTROL & {token.content for token in added if token.special}
    return control


def add_tokens(
    backend: tokenizers.Tokenizer,
    settings: TokenizerSettings,
    control: set[str],
    directory: Path,
) -> None:
    """Add what the files add, in the order of Transformers, which gives the ids.

    Args:
        backend: The library's tokenizer; it is changed.
        settings: What is added.
        control: The control tokens.
        directory: The checkpoint, for messages.

    Raises:
        CheckpointError: A token has an id or flags that contradict another file.
    """
    roles = settings.special_tokens.values()
    special = {*roles, *map(_content, settings.additional), *map(_content, settings.named)}
    before = backend.get_added_tokens_decoder().values()
    tokens = [*settings.added.values()]
    known = {token.content for token in (*before, *tokens)}
    seen: set[str] = set()
    # A token is not added again for a second role or name, but for a second place in the list.
    groups = [[token] for token in (*roles, *settings.named)]
    groups.insert(len(roles), [*settings.additional])
    for group in groups:
        fresh = [token for token in group if _content(token) not in seen]
        seen |= {*map(_content, fresh)}
        for token in fresh:
            # One that says how it is looked for says so beside what was said before.
            if isinstance(token, AddedToken):
                tokens.append(token)
            elif token not in known:
                tokens.append(AddedToken(token, special=True))
    _check_flags((*before, *tokens), control, directory)
    for token in tokens:
        token.special = token.special or token.content in special
    backend.add_tokens(tokens)
    by_id = backend.get_added_tokens_decoder()
    for token in filter(lambda token: token.content, tokens):
        index = backend.token_to_id(token.content)
        assert index is not None  # it was added just now
        names = {backend.model.id_to_token(index), by_id[index].content} - {None}
        if names != {token.content}:
            raise CheckpointError(
                f"{directory}: added token {token.content!r}: gets the id {index}, which is that "
                f"of {sorted(names - {token.content})}; want a vocabulary without gaps"
            )
    for index, token in settings.added.items():
        got = backend.token_to_id(token.content)
        if got != index:
            raise CheckpointError(
                f"{directory}: added token {token.content!r}: got the id {index}, and its place "
                f"in the vocabulary is {got}"
            )


def _check_flags(tokens: Iterable[AddedToken], control: set[str], directory: Path) -> None:
    """Refuse a token that is looked for in two ways: the library would use both."""
    flags: dict[str, tuple[bool, ...]] = {}
    for token in tokens:
        own = (token.normalized, token.lstrip, token.rstrip, token.single_word)
        if token.content not in control and flags.setdefault(token.content, own) != own:
            raise CheckpointError(
                f"{directory}: added token {token.content!r}: got {flags[token.content]} and "
                f"{own} for normalized, lstrip, rstrip, single_word; want the same in all files"
            )


def _content(token: str | AddedToken) -> str:
    return token if isinstance(token, str) else str(token.content)


def mark_control_tokens(
    backend: tokenizers.Tokenizer, settings: TokenizerSettings, control: set[str], file: Path
) -> tokenizers.Tokenizer:
    """Make control tokens the only special ones, which are text in a text (see tokenization.py).

    Args:
        backend: The library's tokenizer, everything added.
        settings: Say whether all special tokens are text.
        control: The control tokens.
        file: What the tokenizer was made of, for messages.

    Returns:
        The tokenizer, or another one that is the same but for this.

    Raises:
        CheckpointError: The tokenizer is another one when it is written and read again.
    """
    added = backend.get_added_tokens_decoder().values()
    hides = not settings.splits_special and any(
        token.special and token.content not in control for token in added
    )
    if not hides and all(backend.model.token_to_id(t.content) is not None for t in added):
        return backend
    content = json.loads(backend.to_str())
    if hides:
        for item in content["added_tokens"]:
            item["special"] = item["special"] and item["content"] in control
    # Of JSON, since a token that was special once stays so in a tokenizer.
    rebuilt = tokenizers.Tokenizer.from_str(json.dumps(content))
    if rebuilt.get_vocab(with_added_tokens=True) != backend.get_vocab(with_added_tokens=True):
        raise CheckpointError(
            f"{file}: added tokens get other ids when they are read again, want a vocabulary "
            "without gaps and without tokens that stand twice"
        )
    return rebuilt
