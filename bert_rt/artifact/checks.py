"""Checks of a manifest's values: type, range and form.

`where` is always the name of the field, for the message; whatever is wrong raises
ArtifactFormatError, which names the field, what was got and what is wanted.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from bert_rt.errors import ArtifactFormatError
from bert_rt.support.strict_json import to_plain

__all__ = [
    "MAX_LABELS",
    "check_choice",
    "check_fields",
    "check_int",
    "check_logit",
    "check_number",
    "check_string",
    "check_token_ids",
    "check_type",
    "object_of",
    "plain_list",
    "plain_object",
    "refuse",
]

MAX_LABELS = 2**16
_MAX_TOKENS = 16 * 2**20


def refuse(where: str, got: object, want: str) -> NoReturn:
    """Raise ArtifactFormatError for a field."""
    # reprlib bounds the length, so that a hostile value cannot flood a log.
    raise ArtifactFormatError(f"manifest.{where}: got {reprlib.repr(got)}, want {want}")


def object_of(where: str, value: object) -> dict[str, Any]:
    """Return a value that must be a JSON object."""
    if not isinstance(value, dict):
        refuse(where, value, "an object")
    return value


def plain_object(where: str, value: object) -> dict[str, Any]:
    """Return a copy, in plain JSON values, of what must be an object."""
    try:
        return object_of(where, to_plain(value))
    except ValueError as error:
        raise ArtifactFormatError(f"manifest.{where}: {error}") from None


def plain_list(where: str, value: object, high: int) -> list[Any]:
    """Return a copy, in plain JSON values, of what must be a list of at most high items."""
    if not isinstance(value, list | tuple) or len(value) > high:
        refuse(where, value, f"a list of at most {high}")
    try:
        return [to_plain(item) for item in value]
    except ValueError as error:
        raise ArtifactFormatError(f"manifest.{where}: {error}") from None


def check_type(where: str, value: object, cls: type) -> None:
    """Refuse what is no cls."""
    if not isinstance(value, cls):
        refuse(where, value, cls.__name__)


def check_int(where: str, value: object, low: int, high: int) -> None:
    """Refuse what is no integer from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        refuse(where, value, f"an integer from {low} to {high}")


def check_number(where: str, value: object, low: float, high: float) -> None:
    """Refuse what is no number from low to high; NaN is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        refuse(where, value, f"a number from {low} to {high}")


def check_choice(where: str, value: object, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        refuse(where, value, f"one of {', '.join(choices)}")


def check_fields(
    where: str, item: Any, fields: Mapping[str, Callable[[str, object], None]]
) -> None:
    """Refuse an object that has other fields, or a field that its check refuses.

    Args:
        where: The object's name.
        item: Any plain JSON value.
        fields: Name to check of every field.

    Raises:
        ArtifactFormatError: It is no object, or a field is missing, unknown or wrong.
    """
    if set(object_of(where, item)) != set(fields):
        refuse(where, sorted(item), f"the fields {', '.join(fields)}")
    for name, check in fields.items():
        check(f"{where}.{name}", item[name])


def check_string(where: str, value: object) -> None:
    """Refuse what is no string."""
    check_type(where, value, str)


def check_logit(where: str, value: object) -> None:
    """Refuse what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(where, value, "a number")


def check_token_ids(where: str, value: object) -> None:
    """Refuse what is no list of one or two lists of token ids."""
    for ids in plain_list(where, value, 2):
        for token_id in plain_list(where, ids, _MAX_TOKENS):
            check_int(where, token_id, 0, 2**31 - 1)
