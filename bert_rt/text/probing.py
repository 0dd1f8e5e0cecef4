"""Whether two tokenizers do the same: their vocabularies, and their tokens of probing texts.

How they are written down says little: one tokenizer has many files, and Transformers writes another
tokenizer.json of it with every release.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

import tokenizers

from bert_rt.text.backend import backend_from_bytes
from bert_rt.text.tokenization import Tokenizer

__all__ = ["PROBING_TEXTS", "difference", "probing_texts"]

PROBING_TEXTS = (
    "Karl von Frisch, who decoded the waggle dance, received the Nobel Prize in 1973.",
    " leading, trailing and  double white space \t\r\n ",
    "UPPER lower MiXeD, don't, can't, it's; e-mail@example.com http://x.y/z?a=1&b=2",
    "Caf\u00e9, cafe\u0301, na\u00efve, stra\u00dfe, \u0130stanbul, \u00c5ngstr\u00f6m, \u1e9e",
    "\u4e2d\u6587\u5b57\u7b26, \u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8, \ud55c\uad6d",
    "\u05e9\u05dc\u05d5\u05dd, \u0645\u0631\u062d\u0628\u0627, \u041f\u0440\u0438\u0432",
    "\U0001f600 \U0001f469\u200d\U0001f52c \u2460\u2461 \ufb01ne so\u00adft \u200b\ufeff\u0007bell",
    "1,234.50 + 42% = $3.14; [brackets] {braces} <angle> #hash _under_ ~tilde^",
)
"""Texts that tokenizers of other kinds or with other options split otherwise."""


def probing_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return texts that show how a tokenizer splits: the general ones, and its own tokens.

    Args:
        tokenizer: The tokenizer.

    Returns:
        PROBING_TEXTS, and sentences with the tokens that the checkpoint's makers added.
    """
    own = (
        text
        for token in tokenizer.added_tokens
        for text in (f"a {token} b", f"a{token}b {token.upper()} {token.lower()}")
    )
    return (*PROBING_TEXTS, *own)


def difference(ours: Tokenizer, other: Tokenizer | tokenizers.Tokenizer) -> str | None:
    """Compare a tokenizer with another one.

    Args:
        ours: The tokenizer.
        other: Another one, or one of the library, which stays as it is.

    Returns:
        What is different, in words; None where nothing is.

    Raises:
        ArtifactFormatError: The library's tokenizer cannot be copied.
    """
    ids, encode = ours.get_vocab(), _encoder(other)
    # A blank line of vocab.txt is a token that no text has.
    vocab = other.get_vocab() if isinstance(other, Tokenizer) else other.get_vocab(True)
    for token in {**ids, **vocab}:
        if token and vocab.get(token) != ids.get(token):
            return f"token {token!r} has the id {vocab.get(token)}, want {ids.get(token)}"
    names = {index: token for token, index in ids.items()}
    for text in probing_texts(ours):
        got, want = [*encode(text)], ours.encode(text).input_ids.tolist()
        for index, (mine, his) in enumerate(zip_longest(got, want)):
            if mine != his:
                return f"token {index} of {text!r} is {names.get(mine)!r}, want {names.get(his)!r}"
    return None


def _encoder(tokenizer: Tokenizer | tokenizers.Tokenizer) -> Callable[[str], list[int]]:
    """Return what gives a tokenizer's ids of a text, without special tokens."""
    if isinstance(tokenizer, Tokenizer):
        return lambda text: tokenizer.encode(text).input_ids.tolist()
    backend = backend_from_bytes(tokenizer.to_str().encode())
    backend.no_truncation()
    backend.no_padding()
    return lambda text: [*backend.encode(text, add_special_tokens=False).ids]
