"""What is wrong with the items of a data file: collected, then reported in one message or left out.

A reader checks the whole file before it complains, so that nobody mends one item a run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_rt.errors import InputError

__all__ = ["MAX_LISTED", "Dropped", "Faults", "listed"]

_log = logging.getLogger(__name__)

# Faults named in one message; the others are counted.
MAX_LISTED = 20
_FLAG = "--drop_invalid"


@dataclass(slots=True)
class Dropped:
    """Counts what readers left out because it cannot be used.

    Attributes:
        items: Questions or rows.
        answers: Gold answers of questions that were kept.
    """

    items: int = 0
    answers: int = 0


class Faults:
    """Collects the faults of one file."""

    def __init__(self, file: Path, dropped: Dropped | None) -> None:
        """Start with none.

        Args:
            file: The file, for messages.
            dropped: Counts what is left out; None where every fault is an error.
        """
        self._file = file
        self._dropped = dropped
        self._fatal: list[str] = []
        self._droppable: list[str] = []
        self._items = 0
        self._answers = 0

    def add(self, message: str, *, is_droppable: bool = True) -> None:
        """Note a fault.

        Args:
            message: Place, value got and value wanted.
            is_droppable: Whether its item can be left out; False where the file has another form
                than expected, so that leaving out would hide a mistake of ours or the user's.
        """
        (self._droppable if is_droppable else self._fatal).append(message)

    def drop(self, *, items: int = 0, answers: int = 0) -> None:
        """Count what the reader leaves out.

        Args:
            items: Questions or rows.
            answers: Gold answers of questions that are kept.
        """
        self._items += items
        self._answers += answers

    def close(self, total: int, unit: str) -> None:
        """Raise what was found, or say what was left out.

        Args:
            total: Items of the file, the bad ones included.
            unit: What they are, in the plural.

        Raises:
            InputError: There are faults, and some may not be left out; or no item is left.
        """
        faults = self._fatal if self._dropped is not None else self._fatal + self._droppable
        if faults:
            advice = "" if self._fatal else f" ({_FLAG} leaves out what cannot be used)"
            if len(faults) > 1:
                raise InputError(
                    f"{self._file}: got {len(faults)} faults: {listed(faults)}{advice}"
                )
            # "FILE, line 3: ..." is how all messages name a line.
            separator = ", " if faults[0].startswith("line ") else ": "
            raise InputError(f"{self._file}{separator}{faults[0]}{advice}")
        if total == self._items:
            usable = " that can be used" if total else ""
            raise InputError(f"{self._file}: got 0 {unit}{usable}, want at least 1")
        if self._dropped is None or not self._droppable:
            return
        self._dropped.items += self._items
        self._dropped.answers += self._answers
        answers = f" and {self._answers} answers of others" if self._answers else ""
        _log.warning(
            "%s: left out %d of %d %s%s: %s",
            *(self._file, self._items, total, unit, answers, listed(self._droppable)),
        )


def listed(messages: Sequence[str], limit: int = MAX_LISTED) -> str:
    """Join messages; those beyond the limit are counted.

    Args:
        messages: At least one.
        limit: Most that are shown.

    Returns:
        One line.
    """
    more = len(messages) - limit
    return "; ".join(messages[:limit]) + (f"; and {more:,} more" if more > 0 else "")
