"""A linear regression as an Objective: all of the training loop in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from train.loop.objective import MicroBatch

NUM_ROWS = 24


def make_model() -> nn.Module:
    """Return the same model every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Linear(3, 1)


class ToyObjective:
    """Rows in their order, batch_size a micro-batch, over and over.

    Attributes:
        made: The micro-batches that were made, in this order.
        scores: What evaluate returns, one a call; the last one from then on; none without held-out
            data.
        before: Called with the index before a micro-batch is made.
        num_saved: How often save was called.
    """

    name = "toy"
    best_metric = "r2"
    trivial_loss: float | None = None

    def __init__(
        self,
        *,
        batch_size: int = 4,
        scores: tuple[float, ...] = (),
        before: Callable[[int], object] = lambda index: None,
    ) -> None:
        """Make the data, the same every time."""
        generator = torch.Generator().manual_seed(3)
        self.x_BD = torch.randn(NUM_ROWS, 3, generator=generator)
        self.y_B1 = self.x_BD @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1
        self.batch_size = batch_size
        self.num_micro_batches = NUM_ROWS // batch_size
        self.made: list[int] = []
        self.scores = list(scores)
        self.before = before
        self.num_saved = 0

    def micro_batch(self, index: int) -> MicroBatch:
        """Make the index-th micro-batch."""
        self.before(index)
        self.made.append(index)
        start = index % self.num_micro_batches * self.batch_size
        rows = slice(start, start + self.batch_size)
        tensors = {"x": self.x_BD[rows], "y": self.y_B1[rows]}
        return MicroBatch(tensors, num_tokens=self.batch_size, num_positions=self.batch_size)

    def loss(
        self, model: nn.Module, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the mean squared error."""
        return (model(tensors["x"]) - tensors["y"]).square().mean(), {}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Return the next score."""
        if not self.scores:
            return {}
        model(self.x_BD)
        return {"r2": self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]}

    def save(self, model: nn.Module, directory: Path) -> None:
        """Write the weights."""
        self.num_saved += 1
        directory.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), directory / "weights.pt")


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Read what save wrote."""
    weights: dict[str, Tensor] = torch.load(directory / "weights.pt", weights_only=True)
    return weights
