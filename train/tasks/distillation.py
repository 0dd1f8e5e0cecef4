"""Knowledge distillation: a small model learns what a larger one says of every choice.

Where both have the same sizes, it may learn the states of the teacher's layers, too.

Shape suffixes: B sequences, S padded length, D hidden.

Source: Hinton et al. 2015, arXiv:1503.02531, section 2; states, Cao et al. 2020,
arXiv:2005.00697, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.errors import ConfigError
from bert_rt.model.checkpoint import read_config
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertEncoder
from bert_rt.tasks.checkpoints import load_model
from bert_rt.text.probing import difference
from bert_rt.text.tokenization import Tokenizer

__all__ = ["Teacher", "load_teacher", "recorded_states", "soft_cross_entropy", "state_distance"]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model to learn from.

    Attributes:
        model: In eval mode.
        weight: Share of the loss that is taken against the teacher, in [0, 1].
        temperature: What both models' logits are divided by.
        states_weight: What the distance of the layers' states is multiplied by before it is added
            to the loss; 0 for none of it.
    """

    model: nn.Module
    weight: float
    temperature: float
    states_weight: float = 0.0

    @torch.no_grad()
    def logits(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the teacher on a batch, on the batch's device, and return its outputs."""
        outputs = self.model.to(inputs[0].device)(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)


@contextmanager
def recorded_states(model: nn.Module, first_layer: int | None) -> Iterator[list[Tensor]]:
    """Keep what layers of an encoder return, while a model runs.

    Args:
        model: Has one encoder.
        first_layer: The lowest layer that is kept, from 0; None for no layer.

    Yields:
        A list that gets the states of that layer and of all above it, each of shape (B, S, D).
    """
    states: list[Tensor] = []
    if first_layer is None:
        yield states
        return
    encoder = next(module for module in model.modules() if isinstance(module, BertEncoder))
    handles = [
        layer.register_forward_hook(lambda _layer, _inputs, output: states.append(output))
        for layer in encoder.layer[first_layer:]
    ]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def state_distance(
    student: Sequence[Tensor], teacher: Sequence[Tensor], attention_mask: Tensor
) -> Tensor:
    """Compare two models' states.

    Args:
        student: By layer, shape (B, S, D).
        teacher: Likewise.
        attention_mask: Shape (B, S); 0 for padding, which does not count.

    Returns:
        The squared distance over the teacher's squared length, the mean of the layers; a scalar.
    """
    mask_BS1 = attention_mask[..., None].float()
    distances = []
    for ours, theirs in zip(student, teacher, strict=True):
        squared = ((ours.float() - theirs.float()) * mask_BS1).square().sum()
        distances.append(squared / (theirs.float() * mask_BS1).square().sum())
    return torch.stack(distances).mean()


def load_teacher(
    directory: Path,
    task: str,
    student_dir: Path,
    *,
    weight: float,
    temperature: float,
    states_weight: float = 0.0,
) -> Teacher:
    """Load a teacher for a student that reads the same tokens.

    Args:
        directory: The teacher's checkpoint, fine-tuned for the task.
        task: The task.
        student_dir: The student's checkpoint.
        weight: As in Teacher.
        temperature: As in Teacher, above 0.
        states_weight: As in Teacher; not 0 only for models of the same sizes.

    Returns:
        The teacher.

    Raises:
        ConfigError: A number is out of range, or the two models have different vocabularies or,
            where states are compared, sizes.
        CheckpointError: The checkpoint cannot be read, or is of another task.
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"teacher_weight: got {weight}, want a number from 0 to 1")
    if not temperature > 0.0:
        raise ConfigError(f"temperature: got {temperature}, want a number above 0")
    if not states_weight >= 0.0:
        raise ConfigError(f"teacher_states_weight: got {states_weight}, want a number from 0 on")
    loaded = load_model(directory, task)
    if states_weight:
        _check_sizes(loaded.config, read_config(student_dir)[0])
    ours, other = Tokenizer.from_directory(student_dir), Tokenizer.from_directory(directory)
    mismatch = difference(ours, other)
    if mismatch is not None:
        raise ConfigError(
            f"teacher: the tokenizer of {directory} is another than {student_dir}'s: {mismatch}"
        )
    return Teacher(loaded.model.requires_grad_(False), weight, temperature, states_weight)


def _check_sizes(teacher: BertConfig, student: BertConfig) -> None:
    for name in ("num_hidden_layers", "hidden_size"):
        got, want = getattr(teacher, name), getattr(student, name)
        if got != want:
            raise ConfigError(
                f"teacher_states_weight: the teacher has {name} {got}, want the student's {want}, "
                "or states cannot be compared"
            )


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
