"""--check: ratios that must hold, as data. Never seconds, which differ from machine to machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.files import read_text

__all__ = ["check", "read_thresholds", "thresholds_of"]

_BOUNDS = ("minimum", "maximum")


def read_thresholds(path: str | Path) -> list[dict[str, Any]]:
    """Read a file of thresholds.

    Args:
        path: JSON: {"thresholds": [{"ratio", "scope", "minimum" or "maximum", "isas"}, ...]}.
            "isas", which may be absent, names the instruction sets that the threshold is for.

    Returns:
        The thresholds.

    Raises:
        InputError: The file is missing or not in this form.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    entries = document.get("thresholds") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path}: got no list under "thresholds", want at least one threshold')
    for index, entry in enumerate(entries):
        is_good = (
            isinstance(entry, dict)
            and isinstance(entry.get("ratio"), str)
            and isinstance(entry.get("scope"), str)
            and sum(isinstance(entry.get(bound), int | float) for bound in _BOUNDS) == 1
            and _is_names(entry.get("isas", []))
        )
        if not is_good:
            raise InputError(
                f"{path}: thresholds[{index}]: got {entry!r}, want ratio, scope, either "
                "minimum or maximum, and isas, if at all, as a list of names"
            )
    return entries


def thresholds_of(thresholds: list[dict[str, Any]], isa: str) -> list[dict[str, Any]]:
    """Leave out what is for other instruction sets.

    Args:
        thresholds: What read_thresholds returned.
        isa: The instruction set that the native engine chooses on this machine.

    Returns:
        The thresholds that name this instruction set, or none at all.
    """
    return [entry for entry in thresholds if isa in entry.get("isas", [isa])]


def check(ratios: Mapping[str, Mapping[str, Any]], thresholds: list[dict[str, Any]]) -> list[str]:
    """Compare the medians of a run with the thresholds.

    Args:
        ratios: As in the result.
        thresholds: What read_thresholds returned.

    Returns:
        One sentence for each that does not hold; a ratio that was not measured does not hold.
    """
    failures = []
    for entry in thresholds:
        name, scope = entry["ratio"], entry["scope"]
        measured = ratios.get(name, {}).get(scope)
        if measured is None:
            failures.append(f"{name}, {scope}: was not measured in this run")
            continue
        median = measured["median"]
        if "minimum" in entry and median < entry["minimum"]:
            failures.append(f"{name}, {scope}: {median:.3f}, want at least {entry['minimum']:g}")
        if "maximum" in entry and median > entry["maximum"]:
            failures.append(f"{name}, {scope}: {median:.3f}, want at most {entry['maximum']:g}")
    return failures


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
