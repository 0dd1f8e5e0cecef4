"""Checkpoints by the names of their tasks: what config.json names, and models of every head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.architectures import ARCHITECTURES
from bert_rt.model.checkpoint import LoadedModel, load_checkpoint, read_config
from bert_rt.model.head import ENCODER, PRETRAINING, HeadSpec
from bert_rt.tasks.registry import TASKS

if TYPE_CHECKING:
    from bert_rt.model.config import BertConfig
    from bert_rt.model.encoder import TaskModel

__all__ = ["all_heads", "build_model", "head_named", "load_model", "task_of"]


def all_heads() -> dict[str, HeadSpec]:
    """Return the heads that there are, by name: those of all tasks, and those of no task."""
    heads = [task.head_spec for task in TASKS.values()]
    return {head.name: head for head in (*heads, ENCODER, PRETRAINING)}


def head_named(name: str, model_type: str) -> HeadSpec:
    """Find a head.

    Args:
        name: The name of a task, "encoder" or "pretraining".
        model_type: The architecture that shall have it.

    Returns:
        The head.

    Raises:
        ConfigError: There is no such head, or the architecture does not have it.
    """
    heads = {key: head for key, head in all_heads().items() if head.fits(model_type)}
    if name not in heads:
        raise ConfigError(
            f"task: got {name!r}, and there is no model for it; {model_type} has {', '.join(heads)}"
        )
    return heads[name]


def _tasks_of_classes() -> dict[str, str]:
    return {
        name: head.name
        for model_type, row in ARCHITECTURES.items()
        for head in all_heads().values()
        if head.fits(model_type)
        for name in row.class_names(head)
    }


def task_of(raw_config: Mapping[str, Any], task: str | None = None) -> str:
    """Tell a checkpoint's task from its `architectures`, or from the user where it has none.

    Args:
        raw_config: All of config.json.
        task: What the user wants to do with it, if he says so: a name of all_heads.

    Returns:
        A name of all_heads.

    Raises:
        CheckpointError: No architecture is named and no task given, or an architecture that this
            project does not have.
        ConfigError: The architecture is for another task than the one given.
    """
    classes = _tasks_of_classes()
    names = raw_config.get("architectures")
    if not names and task is not None:
        return task
    named = classes.get(str(names[0])) if isinstance(names, list) and names else None
    if named is None:
        supported = ", ".join(classes)
        hint = "" if names else "; where none is named, give the task (task=, or --task)"
        raise CheckpointError(
            f"config.json: architectures: got {names!r}; supported are {supported}{hint}"
        )
    if task not in (None, named):
        raise ConfigError(
            f"model: got a model for {named}, want one for {task} (config.json: architectures)"
        )
    return named


def build_model(
    task: str, config: BertConfig, num_labels: int = 2, *, device: str = "cpu"
) -> TaskModel:
    """Make the model of a task, with fresh weights, in training mode.

    Args:
        task: A name of all_heads.
        config: The architecture.
        num_labels: Number of labels, where the task's head has them.
        device: Where the parameters are made; on "meta" they have shapes and no storage.

    Returns:
        The model.

    Raises:
        ConfigError: There is no such task, or the architecture does not have it.
    """
    from bert_rt.model.heads import make_model

    return make_model(head_named(task, config.model_type), config, num_labels, device=device)


def load_model(
    directory: str | Path,
    task: str | None = None,
    *,
    allow_new_head: bool = False,
    num_labels: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a checkpoint as the model of a task.

    Args:
        directory: The checkpoint.
        task: A name of all_heads; None for the one that config.json names.
        allow_new_head: As in load_checkpoint.
        num_labels: As in load_checkpoint.
        changes: As in load_checkpoint.

    Returns:
        The model, and which weights were new or left over.

    Raises:
        CheckpointError: As in load_checkpoint, or config.json names no task that there is.
        ConfigError: There is no such task, or the architecture does not have it, or it cannot have
            the changes.
    """
    config, raw = read_config(directory)
    head = head_named(task_of(raw) if task is None else task, config.model_type)
    return load_checkpoint(
        directory, head, allow_new_head=allow_new_head, num_labels=num_labels, changes=changes
    )
