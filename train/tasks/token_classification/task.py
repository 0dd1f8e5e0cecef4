"""Fine-tuning for token classification: its flags, and what they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bert_rt.support.flags import flag
from bert_rt.tasks.limits import WindowLimits
from bert_rt.tasks.token_classification.tagging import TokenClassification as TaggingTask
from train.recipes import Recipe, conll
from train.tasks.base import Setup, TrainTask

if TYPE_CHECKING:
    from torch import nn

    from train.tasks.base import TaskObjective

__all__ = ["Options", "TokenClassification"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model learns to label words.

    Attributes:
        label_names: Names of the labels, in the order of the logits; None for the data's.
    """

    label_names: Sequence[str] | None = field(
        default=None,
        metadata=flag(nargs="+", metavar="NAME", help="of classes 0, 1, ..., for classification"),
    )


class TokenClassification(TrainTask):
    """Lists of words with a label each."""

    task = TaggingTask()
    options_class = Options

    def default_recipe(self) -> Recipe:
        """Return that of CoNLL-2003."""
        return conll()

    def make_limits(self, given: Mapping[str, Any], recipe: Recipe) -> WindowLimits:
        """Make the limits of a run; neighbouring windows share a quarter where nobody says."""
        length = given.get("max_seq_length", recipe.max_seq_length)
        limits: WindowLimits = self.task.make_limits(
            {"max_seq_length": length, "doc_stride": length // 4, **given}
        )
        return limits

    def make(self, setup: Setup) -> tuple[nn.Module, TaskObjective]:
        """Load a model and its texts."""
        from train.tasks.token_classification.objective import make_tagging

        return make_tagging(setup)
