"""JSON from strangers, parsed strictly and within bounds; and JSON for people, which they can read.

The standard parser takes NaN, keeps the last of two equal keys, spends quadratic time on long
integers and overflows the stack on deep nesting. Here each of these is one ValueError. Files that
other programs write, of which only some fields are read, are parsed by parse_foreign instead.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "parse_foreign", "parse_json", "readable_json", "to_plain"]

# Deep enough for any report; shallow enough that nothing which walks the value can overflow.
MAX_DEPTH = 32
_INTEGER_LIMIT = 2**64
# Python's own limit, below which reading an integer takes microseconds.
_MAX_DIGITS = 4300


def parse_json(data: bytes, *, max_bytes: int) -> Any:
    """Parse UTF-8 JSON without duplicate keys, NaN, infinities, deep nesting or huge integers.

    Args:
        data: The JSON text.
        max_bytes: Longest text that is looked at.

    Returns:
        The value, of dictionaries, lists, strings, numbers, booleans and None.

    Raises:
        ValueError: It is not such JSON; the message is one line.
    """
    if len(data) > max_bytes:
        raise ValueError(f"got {len(data)} bytes of JSON, want at most {max_bytes}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
        )
    except RecursionError:
        raise ValueError(f"got deeper nesting, want at most {MAX_DEPTH} levels") from None
    return to_plain(value)


def parse_foreign(data: bytes, *, max_bytes: int) -> Any:
    """Parse UTF-8 JSON as Python's own parser does: whoever reads a field checks its value.

    A byte order mark, NaN, infinities, huge numbers and a name that comes twice (the last one
    counts) are taken, since in a field that is not read they do no harm.

    Args:
        data: The JSON text.
        max_bytes: Longest text that is looked at.

    Returns:
        The value, of dictionaries, lists, strings, numbers, booleans and None; an integer of
        thousands of digits is an infinite float.

    Raises:
        ValueError: It is not JSON, or nested too deeply for the parser; the message is one line.
    """
    if len(data) > max_bytes:
        raise ValueError(f"got {len(data)} bytes of JSON, want at most {max_bytes}")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_int=_parse_any_int)
    except RecursionError:
        raise ValueError("got nesting that is too deep to be parsed") from None


def readable_json(value: Any, encoding: str = "utf-8", **options: Any) -> str:
    """Return JSON for people: letters of every script as they are, not as escapes.

    Args:
        value: What json.dumps takes.
        encoding: Of what the text is written to. A text that it cannot hold (in UTF-8: one with a
            lone surrogate) is escaped, which every encoding holds.
        **options: Of json.dumps.

    Returns:
        The text; parsers make the same of both forms.
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(value, **options)
    return text


def to_plain(value: object, depth: int = 0) -> Any:
    """Copy a value into plain JSON types, so that it equals what its JSON text gives back.

    Args:
        value: Mappings, lists, tuples, strings, numbers, booleans and None, in each other.
        depth: Levels of nesting above the value.

    Returns:
        The same as dictionaries, lists, strings, int, float, bool and None.

    Raises:
        ValueError: Something in it has no JSON form: another type, a key that is no string, NaN,
            a lone surrogate, an integer beyond 64 bits, or more than MAX_DEPTH levels.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"got deeper nesting, want at most {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            _refuse(value, "text without lone surrogates, which UTF-8 cannot hold")
        return str(value)
    if isinstance(value, int):
        if abs(value) >= _INTEGER_LIMIT:
            raise ValueError("got a huge integer, want at most 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(value, "a finite number")
        return float(value)
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                _refuse(name, "a name that is a string")
        return {to_plain(name): to_plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, depth + 1) for item in value]
    return _refuse(value, "a JSON value")


def _refuse(got: object, want: str) -> NoReturn:
    # reprlib bounds the length, so that a hostile value cannot flood a log.
    raise ValueError(f"got {reprlib.repr(got)}, want {want}")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        _refuse(sorted(name for name, _ in pairs), "no name twice in one object")
    return values


def _refuse_constant(name: str) -> NoReturn:
    _refuse(name, "a finite number")


def _parse_int(digits: str) -> int:
    # Turning digits into a number takes quadratic time, and 64 bits never need this many.
    if len(digits) > 24:
        _refuse(digits, "an integer of at most 64 bits")
    return int(digits)


def _parse_any_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)
