"""Fine-tuning for text classification: its flags, and what they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bert_rt.support.flags import flag
from bert_rt.tasks.text_classification.classifying import TextClassification as ClassifyingTask
from train.recipes import Recipe, sst2
from train.tasks.base import Setup, TrainTask

if TYPE_CHECKING:
    from torch import nn

    from train.tasks.base import TaskObjective

__all__ = ["Options", "TextClassification"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model learns to classify.

    Attributes:
        label_names: Names of the classes, in the order of the logits; None for the data's.
    """

    label_names: Sequence[str] | None = field(
        default=None,
        metadata=flag(nargs="+", metavar="NAME", help="of classes 0, 1, ..., for classification"),
    )


class TextClassification(TrainTask):
    """Labelled texts, one class a text."""

    task = ClassifyingTask()
    options_class = Options

    def default_recipe(self) -> Recipe:
        """Return that of SST-2."""
        return sst2()

    def fingerprint(self, setup: Setup) -> dict[str, Any]:
        """Return what a resumed run must have alike, the only limit as runs always wrote it."""
        rest = super().fingerprint(setup)
        return {**rest.pop("limits"), **rest}

    def make(self, setup: Setup) -> tuple[nn.Module, TaskObjective]:
        """Load a model and its texts."""
        from train.tasks.text_classification.objective import make_classification

        return make_classification(
            setup.model_dir,
            setup.train_files,
            setup.validation_file,
            weights_dir=setup.weights_dir,
            columns=setup.layout,
            labels=setup.options.label_names,
            max_seq_length=setup.limits.max_seq_length,
            batch_size=setup.batch_size,
            seed=setup.seed,
            dropped=setup.dropped,
        )
