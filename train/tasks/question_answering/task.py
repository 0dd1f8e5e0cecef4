"""Fine-tuning for question answering: its flags, and what they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import ConfigError
from bert_rt.model.checkpoint import checkpoint_hash
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
        teacher_states_weight: What the distance to the states of the teacher's layers is
            multiplied by and added to the loss, split layers left out; 0 for none of it.
        num_split_layers: How many of the lowest layers shall know no question
            (BertConfig.num_split_layers); None for as many as the checkpoint says.
        marked_answers_only: Whether only the marked place of an answer counts.
    """

    teacher: Path | None = field(
        default=None,
        metadata=flag(type=Path, metavar="DIR", help="learn from a checkpoint, too"),
    )
    teacher_weight: float = field(default=0.5, metadata=flag(metavar="W"))
    temperature: float = field(default=2.0, metadata=flag(metavar="T"))
    teacher_states_weight: float = field(
        default=0.0,
        metadata=flag(metavar="W", help="learn the teacher's states above split layers"),
    )
    num_split_layers: int | None = field(
        default=None,
        metadata=flag(
            type=int,
            metavar="K",
            help="layers in which question and passage do not see each other",
        ),
    )
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

    def fingerprint(self, setup: Setup) -> dict[str, Any]:
        """Return what a resumed run must have alike, the hash of the teacher's weights among it."""
        values = super().fingerprint(setup)
        teacher = values["options"].pop("teacher")
        values["options"]["teacher_sha256"] = teacher and checkpoint_hash(teacher)
        # Absent where they are left out, as in the checkpoints of runs that did not know them.
        for name, value in (("teacher_states_weight", 0.0), ("num_split_layers", None)):
            if values["options"][name] == value:
                del values["options"][name]
        if setup.options.num_split_layers:
            # A run that an earlier release began had other batches: it cannot be gone on with.
            values["options"]["passages"] = "their questions in one batch"
        return values

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
                states_weight=options.teacher_states_weight,
            )
        elif options.teacher_states_weight:
            raise ConfigError(
                f"teacher_states_weight: got {options.teacher_states_weight}, want a teacher with "
                "it, or 0"
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
            num_split_layers=options.num_split_layers,
            dropped=setup.dropped,
        )
