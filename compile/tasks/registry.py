"""The tasks that compile: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ConfigError, UnsupportedOpError
from bert_rt.model.checkpoint import read_raw_config
from bert_rt.model.encoder_decoder_checkpoint import ENCODER_DECODER
from bert_rt.tasks.base import Task
from bert_rt.tasks.checkpoints import task_of
from compile.judge.gate import Measure
from compile.tasks.base import CompileTask, Settings
from compile.tasks.question_answering import QuestionAnswering
from compile.tasks.summarization import Summarization
from compile.tasks.text_classification import TextClassification
from compile.tasks.token_classification import TokenClassification
from compile.tasks.translation import Translation

__all__ = [
    "COMPILE_TASKS",
    "TaskPart",
    "all_bars",
    "load_for_compiling",
    "register",
    "task_of_manifest",
]


class TaskPart(Protocol):
    """What makes the parts of a task: CompileTask's class methods."""

    @property
    def task(self) -> Task[Any, Any, Any]:
        """The task as runtimes know it."""
        ...

    @property
    def has_decoder(self) -> bool:
        """As in CompileTask."""
        ...

    def measures(self) -> Sequence[Measure]:
        """As in CompileTask."""
        ...

    def load(self, directory: Path) -> Any:
        """As in CompileTask."""
        ...

    def for_model(self, loaded: Any, settings: Settings) -> CompileTask:
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
register(Translation)


def all_bars() -> dict[str, tuple[str, float]]:
    """Return the flags of all tasks' gates: name to what is measured, and the bar's default."""
    measures = [measure for task in _TASKS.values() for measure in task.measures()]
    return {
        name: (measure.title, value) for measure in measures for name, value in measure.bars.items()
    }


def load_for_compiling(
    directory: Path, task: str | None, settings: Settings
) -> tuple[Any, CompileTask]:
    """Load a checkpoint, and make its task's part in the compile.

    Args:
        directory: The checkpoint.
        task: What the model does, where config.json does not say; None for what it says.
        settings: What the user sets.

    Returns:
        The model, and the part.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        ConfigError: The checkpoint is for another task than the one given; or a setting is out of
            range, or none of this task's.
        UnsupportedOpError: The task does not compile, or not with this kind of head.
    """
    raw = read_raw_config(directory)[1]
    has_decoder = raw.get("model_type") == ENCODER_DECODER
    name = _writing_task(task) if has_decoder else task_of(raw, task)
    part = _find(name)
    loaded = part.load(directory)
    return loaded, part.for_model(loaded, settings)


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


def _writing_task(task: str | None) -> str:
    """Return the task of an encoder-decoder, whose config.json does not say."""
    able = [name for name, part in _TASKS.items() if part.has_decoder]
    if task is None and len(able) == 1:
        return able[0]
    if task not in able:
        raise ConfigError(
            f"task: got {task!r} for an encoder-decoder, want one of {', '.join(able)}"
        )
    return str(task)


def _find(name: str) -> TaskPart:
    if name not in _TASKS:
        raise UnsupportedOpError(f"task: got {name!r}, want one that compiles: {', '.join(_TASKS)}")
    return _TASKS[name]
