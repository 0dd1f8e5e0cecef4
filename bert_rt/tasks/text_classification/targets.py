"""What the label column of a file holds, for every kind of head: a class, several labels, a number.

Shapes: Q texts, C labels.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputError
from bert_rt.model.labels import class_index
from bert_rt.support.faults import Dropped, listed
from bert_rt.tasks.text_classification.head import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from bert_rt.tasks.text_classification.labelled import (
    LabelledText,
    class_indices,
    read_labelled,
)
from bert_rt.tasks.text_classification.rows import Columns

__all__ = ["TARGETS", "Target", "label_matrix", "values_of"]

# Between the labels of a row, in files that have no lists.
_SEPARATOR = ","
_MAX_VALUE = 1e6


class Target(Protocol):
    """What the rows of a file say of their texts."""

    def read(
        self,
        path: str | Path,
        columns: Columns | None,
        labels: Sequence[str],
        dropped: Dropped | None = None,
    ) -> list[LabelledText]:
        """Read a file, checked against the model's labels; raises InputError."""
        ...


class _Classes:
    """One class a row."""

    def read(
        self,
        path: str | Path,
        columns: Columns | None,
        labels: Sequence[str],
        dropped: Dropped | None = None,
    ) -> list[LabelledText]:
        examples = read_labelled(path, columns, dropped=dropped)
        class_indices(examples, labels)
        return examples


class _LabelSets:
    """Any number of labels a row: a JSON list, or names with commas between them."""

    def read(
        self,
        path: str | Path,
        columns: Columns | None,
        labels: Sequence[str],
        dropped: Dropped | None = None,
    ) -> list[LabelledText]:
        examples = read_labelled(path, columns, read_label=_label_list, dropped=dropped)
        label_matrix(examples, labels)
        return examples


class _Values:
    """One number a row."""

    def read(
        self,
        path: str | Path,
        columns: Columns | None,
        labels: Sequence[str],
        dropped: Dropped | None = None,
    ) -> list[LabelledText]:
        del labels
        return read_labelled(path, columns, read_label=_number, dropped=dropped)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {SINGLE_LABEL: _Classes(), MULTI_LABEL: _LabelSets(), REGRESSION: _Values()}
)


def label_matrix(examples: Sequence[LabelledText], names: Sequence[str]) -> NDArray[np.bool_]:
    """Find which of a model's labels every row has.

    Args:
        examples: Rows that were read for several labels each.
        names: The labels' names in the order of the logits.

    Returns:
        Shape (Q, C), bool.

    Raises:
        InputError: Labels are none of the model's, or stand twice; the message names each, with
            file and line.
    """
    gold_QC = np.zeros((len(examples), len(names)), bool)
    faults: list[str] = []
    for row, example in enumerate(examples):
        for label in _parts(example.label, names):
            index = class_index(label, names)
            if index is None:
                faults.append(f"{example.place}: label: got {reprlib.repr(label)}")
            elif gold_QC[row, index]:
                faults.append(f"{example.place}: label: got {reprlib.repr(label)} twice")
            else:
                gold_QC[row, index] = True
    if faults:
        shown = ", ".join(map(reprlib.repr, names[:10]))
        raise InputError(
            f"{listed(faults)}, want any of the model's {len(names)} labels, each once: {shown}"
            f"{', ...' if len(names) > 10 else ''}; several as a JSON list or with "
            f"{_SEPARATOR!r} between them"
        )
    return gold_QC


def values_of(examples: Sequence[LabelledText]) -> NDArray[np.float64]:
    """Return the numbers of rows that were read for a regression: shape (Q,), float64."""
    return np.array([float(example.label) for example in examples])


def _parts(text: str, names: Sequence[str]) -> list[str]:
    """Return the labels of a row, as the file names them."""
    if text in names:  # one label, whose name may hold a comma
        return [text]
    if text.startswith("["):
        return list(json.loads(text))
    return [part.strip() for part in text.split(_SEPARATOR)] if text else []


def _label_list(value: Any) -> str:
    """Check labels as a file has them; lists become JSON, so that names may hold anything."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise InputError(
                f"label: got {reprlib.repr(value)}, which is no JSON list of labels"
            ) from None
    if isinstance(value, list):
        if not all(_is_name(item) for item in value):
            _refuse_list(value)
        return json.dumps([str(item).strip() for item in value])
    if not isinstance(value, str) and not _is_name(value):
        _refuse_list(value)
    return str(value).strip()


def _refuse_list(value: Any) -> NoReturn:
    raise InputError(f"label: got {reprlib.repr(value)}, want a list of labels' names or numbers")


def _is_name(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> str:
    """Check a number, and write it so that it reads the same again."""
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (OverflowError, ValueError):
            number = math.nan
    # Written so that NaN is refused, too.
    if not abs(number) <= _MAX_VALUE:
        raise InputError(
            f"label: got {reprlib.repr(value)}, want a number from {-_MAX_VALUE:g} to "
            f"{_MAX_VALUE:g}"
        )
    return repr(number)
