"""Knowledge distillation: a small model learns what a larger one says of every choice.

Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.errors import ConfigError
from bert_rt.tasks.checkpoints import load_model
from bert_rt.text.probing import difference
from bert_rt.text.tokenization import Tokenizer

__all__ = ["Teacher", "load_teacher", "soft_cross_entropy"]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model to learn from.

    Attributes:
        model: In eval mode.
        weight: Share of the loss that is taken against the teacher, in [0, 1].
        temperature: What both models' logits are divided by.
    """

    model: nn.Module
    weight: float
    temperature: float

    @torch.no_grad()
    def logits(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the teacher on a batch, on the batch's device, and return its outputs."""
        outputs = self.model.to(inputs[0].device)(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)


def load_teacher(
    directory: Path, task: str, student_dir: Path, *, weight: float, temperature: float
) -> Teacher:
    """Load a teacher for a student that reads the same tokens.

    Args:
        directory: The teacher's checkpoint, fine-tuned for the task.
        task: The task.
        student_dir: The student's checkpoint.
        weight: As in Teacher.
        temperature: As in Teacher, above 0.

    Returns:
        The teacher.

    Raises:
        ConfigError: A number is out of range, or the two models have different vocabularies.
        CheckpointError: The checkpoint cannot be read, or is of another task.
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"teacher_weight: got {weight}, want a number from 0 to 1")
    if not temperature > 0.0:
        raise ConfigError(f"temperature: got {temperature}, want a number above 0")
    loaded = load_model(directory, task)
    ours, other = Tokenizer.from_directory(student_dir), Tokenizer.from_directory(directory)
    mismatch = difference(ours, other)
    if mismatch is not None:
        raise ConfigError(
            f"teacher: the tokenizer of {directory} is another than {student_dir}'s: {mismatch}"
        )
    return Teacher(loaded.model.requires_grad_(False), weight, temperature)


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compare two models' choices.

    Args:
        student: Logits of shape (B, C); -inf at what is no choice.
        teacher: Likewise.
        temperature: What the logits are divided by.

    Returns:
        The mean cross-entropy of the student against the teacher, a scalar, times the squared
        temperature, which keeps the gradient's size.
    """
    wanted = torch.softmax(teacher.float() / temperature, dim=-1)
    log_probs = F.log_softmax(student.float() / temperature, dim=-1)
    # 0 times -inf, at what is no choice, is NaN.
    log_probs = log_probs.masked_fill(torch.isinf(log_probs), 0.0)
    return -(wanted * log_probs).sum(-1).mean() * temperature**2
