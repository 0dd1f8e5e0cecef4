"""What config.json says of a classifier: the names of its classes, and what its scores are.

What reads config.json is for the module checkpoint, which is the one to call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.errors import CheckpointError

__all__ = ["class_index", "label_names", "problem_type"]

_CONFIG = "config.json"
_MAX_LABELS = 2**16
_PROBLEM_TYPES = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)


def label_names(raw_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a classifier's classes.

    Args:
        raw_config: All of config.json.

    Returns:
        One name a class, in the order of the logits: those of id2label, whatever num_labels
        says; else LABEL_0, LABEL_1 and so on for num_labels (2 where that is absent, too).
        label2id is not read. All this is as in Transformers.

    Raises:
        CheckpointError: id2label does not number its names from 0, or num_labels is no count.
    """
    names = raw_config.get("id2label")
    if names is None:
        count = raw_config.get("num_labels")
        count = 2 if count is None else count
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= _MAX_LABELS:
            raise CheckpointError(
                f"{_CONFIG}: num_labels: got {count!r}, want an integer from 1 to {_MAX_LABELS}"
            )
        return tuple(f"LABEL_{index}" for index in range(count))
    if isinstance(names, dict) and names:
        by_index = {_index(key): str(name) for key, name in names.items()}
        if by_index.keys() == set(range(len(names))):
            return tuple(by_index[index] for index in range(len(names)))
    raise CheckpointError(f"{_CONFIG}: id2label: got {names!r}, want names for 0, 1, ...")


def _index(key: Any) -> int | None:
    # Numbers are strings in JSON; who makes a configuration in Python may leave them numbers.
    try:
        return int(key)
    except (TypeError, ValueError):
        return None


def problem_type(raw_config: Mapping[str, Any]) -> str | None:
    """Return what config.json says that a classifier's scores are.

    Args:
        raw_config: All of config.json.

    Returns:
        The name, or None where nothing is said.

    Raises:
        CheckpointError: It is none of those that Transformers knows.
    """
    name: str | None = raw_config.get("problem_type")
    if name not in (None, *_PROBLEM_TYPES):
        raise CheckpointError(
            f"{_CONFIG}: problem_type: got {name!r}, want one of {', '.join(_PROBLEM_TYPES)}"
        )
    return name


def class_index(label: str, names: Sequence[str]) -> int | None:
    """Find a label among a model's classes.

    Args:
        label: As a file has it.
        names: The classes' names in the order of the logits.

    Returns:
        The place of the name; or, where no class is named by a number, the number that the label
        is, since many data sets number the classes that a model names. None where it is neither.
    """
    if label in names:
        return names.index(label)
    if any(name.isdigit() for name in names) or not (label.isascii() and label.isdigit()):
        return None
    # The length first: turning a million digits into a number takes a while.
    return int(label) if len(label) < 7 and int(label) < len(names) else None
