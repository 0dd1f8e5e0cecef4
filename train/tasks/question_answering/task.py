"""Fine-tuning for question answering: its flags, and what they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bert_rt.support.flags import flag
from bert_rt.tasks.question_answering.answering import QuestionAnswering as AnsweringTask
from train.recipes import Recipe, squad
from train.tasks.base import Setup, TrainTask

if TYPE_CHECKING:
    from torch import nn

    from train.tasks.base import TaskObjective

__all__ = ["Options", "QuestionAnswering"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model learns to answer.

    Attributes:
        teacher: A checkpoint to learn from beside the answers, or None.
        teacher_weight: Share of the loss that is taken against the teacher.
        temperature: What both models' logits are divided by for it.
        marked_answers_only: Whether only the marked place of an answer counts.
    """

    teacher: Path | None = field(
        default=None,
        metadata=flag(type=Path, metavar="DIR", help="learn from a checkpoint, too"),
    )
    teacher_weight: float = field(default=0.5, metadata=flag(metavar="W"))
    temperature: float = field(default=2.0, metadata=flag(metavar="T"))
    marked_answers_only: bool = field(
        default=False,
        metadata=flag(help="do not count the other places where an answer's text stands"),
    )


class QuestionAnswering(TrainTask):
    """Questions over passages, in SQuAD's form."""

    task = AnsweringTask()
    options_class = Options

    def default_recipe(self) -> Recipe:
        """Return that of SQuAD v1.1."""
        return squad()

    def make(self, setup: Setup) -> tuple[nn.Module, TaskObjective]:
        """Load a model, its windows and, where there is one, its teacher."""
        from train.tasks.distillation import load_teacher
        from train.tasks.question_answering.objective import make_question_answering

        options: Options = setup.options
        teacher = None
        if options.teacher is not None:
            teacher = load_teacher(
                options.teacher,
                self.task.name,
                setup.model_dir,
                weight=options.teacher_weight,
                temperature=options.temperature,
            )
        return make_question_answering(
            setup.model_dir,
            setup.train_files,
            setup.validation_file,
            weights_dir=setup.weights_dir,
            config=setup.limits,
            batch_size=setup.batch_size,
            seed=setup.seed,
            all_positions=not options.marked_answers_only,
            teacher=teacher,
            dropped=setup.dropped,
        )
