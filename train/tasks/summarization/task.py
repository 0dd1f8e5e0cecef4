"""Fine-tuning for extractive summarization: its flags, and what they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.summarization.summarizing import Summarization as SummarizingTask
from train.recipes import Recipe, scitldr
from train.tasks.base import Setup, TrainTask

if TYPE_CHECKING:
    from torch import nn

    from train.tasks.base import TaskObjective

__all__ = ["Summarization"]


class Summarization(TrainTask):
    """Documents with summaries; the sentences to choose are found by greedy ROUGE."""

    task = SummarizingTask()

    def default_recipe(self) -> Recipe:
        """Return that of SciTLDR."""
        return scitldr()

    def make_limits(self, given: Mapping[str, Any], recipe: Recipe) -> SummaryConfig:
        """Make the limits of a run; those of a short window shrink with it."""
        length = given.get("max_seq_length", recipe.max_seq_length)
        parts = {"doc_stride": length // 4, "max_sentence_length": min(128, length - 2)}
        limits: SummaryConfig = self.task.make_limits({"max_seq_length": length, **parts, **given})
        return limits

    def make(self, setup: Setup) -> tuple[nn.Module, TaskObjective]:
        """Load a model and its documents."""
        from train.tasks.summarization.objective import make_summarizing

        return make_summarizing(setup)
