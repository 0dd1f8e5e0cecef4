"""What a training run optimizes: all that pretraining and the fine-tuning tasks differ in.

train.loop drives an Objective and knows nothing of tasks. Everything an objective does is a pure
function of its arguments and the run's seed, so that a resumed run meets the same batches, masks
and dropout as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

__all__ = ["MicroBatch", "Objective"]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one forward and backward pass takes.

    Attributes:
        tensors: The model's inputs and its targets by name, on the CPU.
        num_tokens: Tokens that are no padding.
        num_positions: Tokens with padding, which is what the arithmetic is spent on.
    """

    tensors: Mapping[str, Tensor]
    num_tokens: int
    num_positions: int


class Objective(Protocol):
    """A model's task: batches, their loss, the score on held-out data, and how to save it.

    Attributes:
        name: What is trained: "pretraining" or the name of a task.
        best_metric: Which score of `evaluate` says how good the model is (greater is better).
        num_micro_batches: Micro-batches of one pass over the training data.
        trivial_loss: The loss of a model that has learnt only how frequent each target is (the
            unigram entropy, say), in nats; a run that stays there has learnt nothing. None where
            that is unknown.
    """

    name: str
    best_metric: str
    num_micro_batches: int
    trivial_loss: float | None

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch of the run.

        Args:
            index: From 0, over all epochs: epoch index // num_micro_batches, each in an order of
                its own. The same index always gives the same micro-batch.

        Returns:
            The micro-batch.
        """
        ...

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Compute the loss of a micro-batch.

        Args:
            model: The model, possibly wrapped for several processes or compiled: call it, and
                reach for nothing inside it.
            tensors: MicroBatch.tensors on the model's device.

        Returns:
            The mean loss in nats, a float32 scalar to differentiate; and its parts by name, or
            other scalars worth logging (detached), such as "mlm_loss".
        """
        ...

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Score the model on held-out data.

        Args:
            model: The plain model, in eval mode.

        Returns:
            Scores by name, best_metric among them; empty where there is no held-out data.
        """
        ...

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write the model as a checkpoint in the Hugging Face layout, whole or not at all.

        Args:
            model: The plain model.
            directory: The checkpoint; made, or its files replaced.
        """
        ...
