"""The tasks that there are: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bert_rt.errors import ArtifactFormatError, ConfigError
from bert_rt.tasks.base import Task
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.summarization.summarizing import Summarization
from bert_rt.tasks.text_classification.classifying import TextClassification
from bert_rt.tasks.token_classification.tagging import TokenClassification
from bert_rt.tasks.translation.translating import Translating

__all__ = ["TASKS", "find_task", "register", "task_of_artifact"]

_TASKS: dict[str, Task[Any, Any, Any]] = {}
TASKS: Mapping[str, Task[Any, Any, Any]] = MappingProxyType(_TASKS)


def register(task: Task[Any, Any, Any]) -> None:
    """Add a task to those that artifacts may be for; one of the same name is replaced."""
    _TASKS[task.name] = task


register(QuestionAnswering())
register(TextClassification())
register(TokenClassification())
register(Summarization())
register(Translating())


def find_task(name: str) -> Task[Any, Any, Any]:
    """Return the task of a name.

    Args:
        name: Such as "question-answering".

    Returns:
        The task.

    Raises:
        ConfigError: There is no such task.
    """
    task = _TASKS.get(name)
    if task is None:
        raise ConfigError(f"task: got {name!r}, want one of {', '.join(_TASKS)}")
    return task


def task_of_artifact(name: str) -> Task[Any, Any, Any]:
    """Return the task that a manifest names; raises ArtifactFormatError where there is none."""
    try:
        return find_task(name)
    except ConfigError as error:
        raise ArtifactFormatError(f"manifest.{error}") from None
