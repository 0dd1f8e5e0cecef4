"""Fine-tuning for extractive summarization: its flags, and what they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bert_rt.errors import ConfigError
from bert_rt.support.flags import flag
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.summarization.summarizing import Summarization as SummarizingTask
from train.recipes import Recipe, scitldr
from train.tasks.base import Setup, TrainTask

if TYPE_CHECKING:
    from torch import nn

    from train.tasks.base import TaskObjective

__all__ = ["Options", "Summarization"]

_LABELS = ("greedy", "soft")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a model learns of the sentences of a document (train.tasks.summarization.labels).

    Attributes:
        sentence_labels: "soft": the more, the greater a sentence's ROUGE; "greedy", as BertSum: 1
            for the sentences of the best summary, else 0.
        rouge_temperature: Of soft labels, in points of ROUGE: how much greater makes e times the
            label.
    """

    sentence_labels: str = field(
        default="greedy",
        metadata=flag(
            choices=_LABELS, metavar=None, help="1 and 0 by greedy ROUGE, or shares by ROUGE"
        ),
    )
    rouge_temperature: float = field(
        default=5.0, metadata=flag(metavar="T", help="of soft labels, in points of ROUGE")
    )

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            ConfigError: A field is out of range.
        """
        if self.sentence_labels not in _LABELS:
            raise ConfigError(
                f"sentence_labels: got {self.sentence_labels!r}, want {' or '.join(_LABELS)}"
            )
        if not 0.01 <= self.rouge_temperature <= 1000:
            raise ConfigError(
                f"rouge_temperature: got {self.rouge_temperature}, want a number from 0.01 to 1000"
            )


class Summarization(TrainTask):
    """Documents with summaries; the sentences to choose are found by ROUGE."""

    task = SummarizingTask()
    options_class = Options

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
