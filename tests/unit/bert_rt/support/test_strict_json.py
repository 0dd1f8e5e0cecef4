"""Strict JSON: plain values come back, anything else is a ValueError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_rt.support.strict_json import MAX_DEPTH, parse_json, readable_json, to_plain

_LIMIT = 2**20

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64) + 1, 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES)
def test_values_come_back(value: Any) -> None:
    assert to_plain(value) == value
    assert parse_json(readable_json(value).encode(), max_bytes=_LIMIT) == value


@pytest.mark.parametrize(
    ("text", "encoding", "want"),
    [
        ("Z\u00fcrich \u4e2d", "utf-8", '{"t": "Z\u00fcrich \u4e2d"}'),
        ("Z\u00fcrich", "latin-1", '{"t": "Z\u00fcrich"}'),
        ("Z\u00fcrich \u4e2d", "latin-1", '{"t": "Z\\u00fcrich \\u4e2d"}'),
        ("Z\u00fcrich", "ascii", '{"t": "Z\\u00fcrich"}'),
        ("\ud800\u00fc", "utf-8", '{"t": "\\ud800\\u00fc"}'),
    ],
)
def test_people_can_read_it_where_the_encoding_allows(text: str, encoding: str, want: str) -> None:
    got = readable_json({"t": text}, encoding)
    assert got == want
    assert json.loads(got.encode(encoding).decode(encoding)) == {"t": text}


@given(st.binary(max_size=100))
def test_bytes_give_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = parse_json(data, max_bytes=_LIMIT)
    except ValueError:
        return
    assert to_plain(value) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "a": 1}', "no name twice"),
        (b"NaN", "got 'NaN', want a finite number"),
        (b"-Infinity", "want a finite number"),
        (b"1e999", "want a finite number"),
        (b"1" + b"0" * 21, "huge integer"),
        (b"1" + b"0" * 99999, "at most 64 bits"),
        (b'"\\udc00"', "lone surrogates"),
        (b'{"\\udc00": 1}', "lone surrogates"),
        (b"\xff", "invalid start byte"),
        (b"", "Expecting value"),
        (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), "deeper nesting"),
        (b"[" * 500_000, "deeper nesting"),
        (b" " * (_LIMIT + 1), f"want at most {_LIMIT}"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text, max_bytes=_LIMIT)


def test_surrogate_pairs_are_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"', max_bytes=_LIMIT) == "\U0001f600"


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, b"x", object(), 1j, float("inf")])
def test_what_has_no_json_form(value: object) -> None:
    with pytest.raises(ValueError, match="got "):
        to_plain([value])


def test_a_value_that_holds_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="deeper nesting"):
        to_plain(value)
