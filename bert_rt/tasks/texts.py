"""Checks of the texts that callers give, and where in a request a bad one stands."""

from __future__ import annotations

import unicodedata
from typing import Any

from bert_rt.errors import EmptyInputError, InputError, InputTooLongError
from bert_rt.text.tokenization import check_encodable

__all__ = ["MAX_TEXT_CHARS", "check_text", "text_fault", "with_place"]

MAX_TEXT_CHARS = 10_000_000


def check_text(field: str, text: Any, *, max_chars: int) -> None:
    """Check a text that a user gave.

    Args:
        field: What the text is, for the message.
        text: The caller's value.
        max_chars: Longest text allowed, in characters.

    Raises:
        EmptyInputError: The text is empty or only white space.
        InputTooLongError: The text has more than max_chars characters.
        InputError: The value is no str, or it holds a NUL character or a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(f"{field}: got {type(text).__name__}, want str")
    if len(text) > max_chars:
        raise InputTooLongError(
            f"{field}: got {len(text)} characters, want at most {max_chars} characters"
        )
    if not text or text.isspace():
        raise EmptyInputError(f"{field}: got {text[:20]!r}, want text that is not only white space")
    position = text.find("\0")
    if position >= 0:
        raise InputError(
            f"{field}: got a NUL character at character {position}, want text without NUL"
        )
    check_encodable(field, text)


def text_fault(field: str, text: Any, *, max_chars: int) -> str | None:
    """Say what is wrong with a text of a data file, for readers that tell all faults at once.

    Args:
        field: What the text is, for the message.
        text: What the file has.
        max_chars: Longest text allowed, in characters.

    Returns:
        The message of check_text; or that the text has only controls, white space and marks that
        belong to a letter, of which a tokenizer may leave nothing; None where all is well.
    """
    try:
        check_text(field, text, max_chars=max_chars)
    except InputError as error:
        return str(error)
    for char in text:
        category = unicodedata.category(char)
        if category[0] not in "CZ" and category != "Mn":
            return None
    return f"{field}: got text without a letter, digit or sign ({text[:20]!a}), want readable text"


def with_place(error: InputError, place: str) -> InputError:
    """Return the same error with the place of the item that it is about in front, unless ""."""
    return type(error)(f"{place}.{error}" if place else str(error))
