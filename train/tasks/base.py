"""What of fine-tuning depends on the task, behind one interface; train.tasks.registry lists them.

flags -> limits, layout, options -> a model and its objective, which train.loop drives
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bert_rt.model.checkpoint import checkpoint_hash
from bert_rt.support.faults import Dropped
from bert_rt.support.flags import known_flags
from bert_rt.tasks.base import Limits
from bert_rt.tasks.settings import TaskSettings
from train.recipes import Recipe

if TYPE_CHECKING:
    from torch import nn

    from train.data.batching import Padding
    from train.loop.objective import Objective

__all__ = ["NoOptions", "Setup", "TaskObjective", "TrainTask"]


@dataclass(frozen=True)
class NoOptions:
    """The options of a task that is trained in one way only."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run is made of.

    Attributes:
        model_dir: The checkpoint that training starts from, or whatever else a task takes.
        train_files: Files of the task's examples, one behind the other.
        validation_file: A file to evaluate on, or None.
        weights_dir: A checkpoint of the run that is resumed; None for a new run.
        limits: The task's limits.
        layout: How the files are laid out, as Task.make_layout gives it.
        options: What TrainTask.make_options gave.
        batch_size: Examples of a micro-batch.
        seed: Decides new weights and the order of the data.
        dropped: Counts examples that cannot be used and are left out; None: they are errors.
    """

    model_dir: Path
    train_files: Sequence[Path]
    validation_file: Path | None
    weights_dir: Path | None
    limits: Any
    layout: Any
    options: Any
    batch_size: int
    seed: int
    dropped: Dropped | None = None


if TYPE_CHECKING:

    class TaskObjective(Objective, Protocol):
        """An objective whose batches are padded; `padding` is set by how many processes train."""

        padding: Padding


class TrainTask(ABC):
    """One task's part in fine-tuning. Its module imports no PyTorch: --help should not wait for it.

    Attributes:
        task: The task as runtimes know it, or at least its settings.
        options_class: The options of only this task's training: a frozen dataclass, each of whose
            fields is a flag (bert_rt.support.flags).
        free_options: Its fields that a resumed run may change, because no step depends on them.
    """

    task: ClassVar[TaskSettings]
    options_class: ClassVar[type[Any]] = NoOptions
    free_options: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def default_recipe(self) -> Recipe:
        """Return what a run does where neither a recipe nor flags say otherwise."""

    @abstractmethod
    def make(self, setup: Setup) -> tuple[nn.Module, TaskObjective]:
        """Load a model and its data.

        Args:
            setup: What the run is made of.

        Returns:
            The model and its objective.

        Raises:
            InputError: A data file is damaged, or examples cannot be used.
            CheckpointError: The checkpoint cannot be read.
            ConfigError: The limits or options do not fit the model.
        """

    def make_limits(self, given: Mapping[str, Any], recipe: Recipe) -> Limits:
        """Make the limits of a run; flags go before the recipe. Raises ConfigError."""
        limits: Limits = self.task.make_limits({"max_seq_length": recipe.max_seq_length, **given})
        return limits

    def make_options(self, given: Mapping[str, Any]) -> Any:
        """Make the options of flags; raises ConfigError for one that this task does not have."""
        owner = f"training for {self.task.name}"
        return self.options_class(**known_flags(given, self.options_class, owner))

    def start_hash(self, model_dir: Path) -> str:
        """Return the SHA-256 of what training starts from; raises CheckpointError."""
        return checkpoint_hash(model_dir)

    def data_files(self, path: Path, layout: Any) -> Sequence[Path]:
        """Return the files that a name of training data stands for; raises InputError."""
        del layout
        return [path]

    def fingerprint(self, setup: Setup) -> dict[str, Any]:
        """Return what a resumed run must have in common with the one before, beside the files.

        Args:
            setup: What the run is made of.

        Returns:
            Values of JSON by name: the limits, the layout of the files, and all options but
            free_options. A task whose options name files puts their hashes in the names' place.

        Raises:
            CheckpointError: A checkpoint that the options name cannot be read.
        """
        options = dataclasses.asdict(setup.options)
        return {
            "limits": dataclasses.asdict(setup.limits),
            "layout": dataclasses.asdict(setup.layout),
            "options": {n: value for n, value in options.items() if n not in self.free_options},
        }
