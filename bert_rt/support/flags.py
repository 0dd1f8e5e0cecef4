"""Flags made of dataclasses: a flag for every field, under its own name.

What a user did not give is not there, so that it differs from what was given as the default.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from bert_rt.errors import ConfigError

__all__ = ["add_flags", "flag", "given_flags", "known_flags"]

_METADATA = "flag"


def flag(**options: Any) -> dict[str, Any]:
    """Return the metadata of a field, where its default's type does not say all of its flag.

    Args:
        **options: Arguments of argparse's add_argument, such as help, type and metavar.

    Returns:
        What dataclasses.field takes as its metadata.
    """
    return {_METADATA: options}


def add_flags(parser: Any, classes: Iterable[type[Any]]) -> None:
    """Add a flag for every field; a name that several classes have is one flag.

    Args:
        parser: A parser, or a group of its flags.
        classes: Dataclasses whose fields all have defaults.
    """
    fields = {field.name: field for cls in reversed([*classes]) for field in _fields(cls)}
    for name in dict.fromkeys(field.name for cls in classes for field in _fields(cls)):
        field = fields[name]
        options = dict(field.metadata.get(_METADATA, {}))
        if isinstance(field.default, bool):
            options["action"] = "store_true"
        else:
            kind = str if field.default is None else type(field.default)
            options = {"type": kind, "metavar": "N"} | options
        # SUPPRESS leaves no attribute where the flag is left out.
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, **options)


def given_flags(args: argparse.Namespace, classes: Iterable[type[Any]]) -> dict[str, Any]:
    """Return the values of those flags of some classes that were given, by name."""
    names = {field.name for cls in classes for field in _fields(cls)}
    return {name: value for name, value in vars(args).items() if name in names}


def known_flags(given: Mapping[str, Any], cls: type[Any], owner: str) -> dict[str, Any]:
    """Return flags that were given, where all of them mean something.

    Args:
        given: Values by name.
        cls: The dataclass that has them as fields.
        owner: Whose they are, for the message, such as "a model of a task".

    Returns:
        The same values.

    Raises:
        ConfigError: The class has no field of a name.
    """
    names = [field.name for field in _fields(cls)]
    for name, value in given.items():
        if name not in names:
            has = f"; it has {', '.join(names)}" if names else ""
            raise ConfigError(f"{name}: got {value!r}, but {owner} has no such setting{has}")
    return dict(given)


def _fields(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)
