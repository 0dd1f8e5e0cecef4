"""Tests of bert_rt.tasks.texts: what is said of a text that cannot be used, and where it stands."""

from __future__ import annotations

from typing import Any

import pytest

from bert_rt.errors import EmptyInputError, InputError, InputTooLongError
from bert_rt.tasks.texts import check_text, with_place


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", EmptyInputError, "context: got '', want text that is not only white space"),
        (" \t\r\n\u3000", EmptyInputError, "context: got ' .*', want text"),
        ("x" * 11, InputTooLongError, "context: got 11 characters, want at most 10 characters"),
        ("a\0b", InputError, "context: got a NUL character at character 1"),
        ("\ud800", InputError, r"context: got the lone surrogate '\\ud800' at character 0"),
        (None, InputError, "context: got NoneType, want str"),
        (b"x", InputError, "context: got bytes, want str"),
    ],
)
def test_check_text_says_what_is_wrong(text: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        check_text("context", text, max_chars=10)
    assert caught.type is error


@pytest.mark.parametrize("text", ["x", " x", "x" * 10, "\u4e2d\U0001f600", "a\u0007"])
def test_check_text_accepts_text(text: str) -> None:
    check_text("context", text, max_chars=10)


@pytest.mark.parametrize("error", [EmptyInputError, InputTooLongError, InputError])
def test_a_place_stands_in_front(error: type[InputError]) -> None:
    located = with_place(error("text: got ''"), "texts[3]")
    assert str(located) == "texts[3].text: got ''" and type(located) is error
    assert str(with_place(error("text: got ''"), "")) == "text: got ''"
