"""The tasks that compile: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.tasks.base import Task
from compile.judge.gate import Measure
from compile.tasks.base import CompileTask, Settings
from compile.tasks.question_answering import QuestionAnswering
from compile.tasks.summarization import Summarization
from compile.tasks.text_classification import TextClassification
from compile.tasks.token_classification import TokenClassification

__all__ = [
    "COMPILE_TASKS",
    "TaskPart",
    "all_bars",
    "register",
    "task_of_manifest",
    "task_of_model",
]


class TaskPart(Protocol):
    """What makes the parts of a task: CompileTask's class methods."""

    @property
    def task(self) -> Task[Any, Any, Any]:
        """The task as runtimes know it."""
        ...

    def measures(self) -> Sequence[Measure]:
        """As in CompileTask."""
        ...

    def for_model(self, loaded: LoadedModel, settings: Settings) -> CompileTask:
        """As in CompileTask."""
        ...

    def for_manifest(self, manifest: Manifest, settings: Settings) -> CompileTask:
        """As in CompileTask."""
        ...


_TASKS: dict[str, TaskPart] = {}
COMPILE_TASKS: Mapping[str, TaskPart] = MappingProxyType(_TASKS)


def register(task: TaskPart) -> None:
    """Add a task to those that compile; one of the same name is replaced."""
    _TASKS[task.task.name] = task


register(QuestionAnswering)
register(TextClassification)
register(TokenClassification)
register(Summarization)


def all_bars() -> dict[str, tuple[str, float]]:
    """Return the flags of all tasks' gates: name to what is measured, and the bar's default."""
    measures = [measure for task in _TASKS.values() for measure in task.measures()]
    return {
        name: (measure.title, value) for measure in measures for name, value in measure.bars.items()
    }


def task_of_model(loaded: LoadedModel, settings: Settings) -> CompileTask:
    """Make the task's part in the compile of a model.

    Args:
        loaded: The model.
        settings: What the user sets.

    Returns:
        The part.

    Raises:
        ConfigError: A setting is out of range, or none of this task's.
        UnsupportedOpError: The task does not compile, or not with this kind of head.
    """
    return _find(loaded.task).for_model(loaded, settings)


def task_of_manifest(manifest: Manifest, layout: Mapping[str, Any] | None = None) -> CompileTask:
    """Make the task's part of an artifact, to measure it again.

    Args:
        manifest: The artifact's.
        layout: How the data file is laid out: what of the task's layout was given.

    Returns:
        The part.

    Raises:
        ConfigError: A field of the layout is none of this task's.
        UnsupportedOpError: The task is none that compiles.
    """
    return _find(manifest.task).for_manifest(manifest, Settings(layout=layout or {}))


def _find(name: str) -> TaskPart:
    if name not in _TASKS:
        raise UnsupportedOpError(f"task: got {name!r}, want one that compiles: {', '.join(_TASKS)}")
    return _TASKS[name]
