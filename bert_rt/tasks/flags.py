"""The flags of all tasks together, for commands that learn from their files which task it is.

A flag of another task than that one is an error (Task.make_limits, Task.make_layout).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from bert_rt.support.flags import add_flags, given_flags
from bert_rt.tasks.registry import TASKS
from bert_rt.tasks.settings import TaskSettings

__all__ = [
    "add_layout_flags",
    "add_limit_flags",
    "add_row_flags",
    "data_files",
    "given_asked",
    "given_columns",
    "given_layout",
    "given_limits",
]


def add_limit_flags(parser: argparse.ArgumentParser, tasks: Iterable[TaskSettings] = ()) -> None:
    """Add a flag for every limit of some tasks.

    Args:
        parser: The command's parser.
        tasks: The tasks; none for all that there are.
    """
    group = parser.add_argument_group("text", "left out: as the model was compiled or trained")
    add_flags(group, [task.limits_class for task in tasks or TASKS.values()])


def given_limits(args: argparse.Namespace, tasks: Iterable[TaskSettings] = ()) -> dict[str, Any]:
    """Return the flags of add_limit_flags that were given, of whatever of these tasks."""
    return given_flags(args, [task.limits_class for task in tasks or TASKS.values()])


def add_layout_flags(parser: argparse.ArgumentParser, tasks: Iterable[TaskSettings] = ()) -> None:
    """Add the flags that say how the data files of some tasks are laid out.

    Args:
        parser: The command's parser.
        tasks: The tasks; none for all that there are.
    """
    group = parser.add_argument_group("columns", "of data files that are tables")
    add_flags(group, [task.layout_class for task in tasks or TASKS.values()])


def given_layout(args: argparse.Namespace, tasks: Iterable[TaskSettings] = ()) -> dict[str, Any]:
    """Return the flags of add_layout_flags that were given, of whatever of these tasks."""
    return given_flags(args, [task.layout_class for task in tasks or TASKS.values()])


def add_row_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what the columns of all tasks' rows are, and what is asked of them.

    Args:
        parser: The command's parser.
    """
    group = parser.add_argument_group("columns", "of the input")
    add_flags(group, [task.rows().columns_class for task in TASKS.values()])
    add_flags(parser, [task.rows().asked_class for task in TASKS.values()])


def given_columns(args: argparse.Namespace) -> dict[str, Any]:
    """Return the columns of add_row_flags that were given, of whatever task."""
    return given_flags(args, [task.rows().columns_class for task in TASKS.values()])


def given_asked(args: argparse.Namespace) -> dict[str, Any]:
    """Return what of add_row_flags is asked for, of whatever task."""
    return given_flags(args, [task.rows().asked_class for task in TASKS.values()])


def data_files() -> str:
    """Return what the data files of all tasks may be, for help."""
    return "; ".join([*(task.data_files for task in TASKS.values()), "or these with .gz"])
