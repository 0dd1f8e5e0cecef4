"""The tasks that models are fine-tuned for: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from train.tasks.base import TrainTask
from train.tasks.question_answering.task import QuestionAnswering
from train.tasks.summarization.task import Summarization
from train.tasks.text_classification.task import TextClassification
from train.tasks.token_classification.task import TokenClassification
from train.tasks.translation.task import Translation

__all__ = ["TRAIN_TASKS", "register"]

_TASKS: dict[str, TrainTask] = {}
TRAIN_TASKS: Mapping[str, TrainTask] = MappingProxyType(_TASKS)


def register(task: TrainTask) -> None:
    """Add a task to those that models are trained for; one of the same name is replaced."""
    _TASKS[task.task.name] = task


register(QuestionAnswering())
register(TextClassification())
register(TokenClassification())
register(Summarization())
register(Translation())
