"""Dropout that costs little on a CPU.

torch draws one 32-bit random number of its Mersenne twister an element, in sequence; on the CPU
that takes as long as the matrix products of a small model. Here NumPy's SFC64 fills bytes, eight an
operation, and an element is dropped where its byte is small: the probability is rounded to 1/256,
and the scale that makes up for it belongs to the rounded one.

Attention probabilities are not dropped on the CPU: a byte for each of them, of every head and
layer, would cost as much as attention itself (train.optim.attention).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ByteDropout", "RandomBytes", "use_fast_dropout"]


class RandomBytes:
    """Random bytes that depend on a seed alone."""

    def __init__(self) -> None:
        """Start with seed 0."""
        self.reseed(0, 0)

    def reseed(self, *seed: int) -> None:
        """Start a new sequence.

        Args:
            *seed: Non-negative integers; equal ones give equal bytes.
        """
        self._bits = np.random.SFC64(np.random.SeedSequence(seed))

    def at_least(self, threshold: int, shape: torch.Size) -> Tensor:
        """Draw a byte for every element and compare it.

        Args:
            threshold: From 0 to 256.
            shape: Of the result.

        Returns:
            bool; True where the byte is at least the threshold.
        """
        count = shape.numel()
        words: Any = self._bits.random_raw(-(-count // 8))
        # Compared by NumPy, which takes a vector of bytes at a time; torch 20 times as long.
        return torch.from_numpy(words.view(np.uint8)[:count] >= threshold).view(shape)


class _Drop(torch.autograd.Function):
    """x where kept, times a scale; the mask is all that backward needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(is_kept)
        ctx.scale = scale
        # A choice, because a product with a mask converts the mask first: three times the time.
        return torch.where(is_kept, x, 0.0).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (is_kept,) = ctx.saved_tensors
        return torch.where(is_kept, gradients[0], 0.0).mul_(ctx.scale), None, None


class ByteDropout(nn.Module):
    """Dropout with one byte an element."""

    def __init__(self, p: float, source: RandomBytes) -> None:
        """Set the probability and where bytes come from.

        Args:
            p: Probability that an element becomes 0, rounded to 1/256.
            source: Shared by all of a model.
        """
        super().__init__()
        self._threshold = round(256 * p)
        self._source = source

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements in training mode; return x as it is otherwise."""
        if not self.training or self._threshold == 0:
            return x
        is_kept = self._source.at_least(self._threshold, x.shape)
        scale = 256 / (256 - self._threshold)
        dropped: Tensor = _Drop.apply(x, is_kept, scale)  # type: ignore[no-untyped-call]
        return dropped


def use_fast_dropout(model: nn.Module) -> RandomBytes:
    """Replace the dropout of a model that is trained on the CPU, in place.

    Args:
        model: A model as bert_rt.tasks.checkpoints makes it.

    Returns:
        The source of its randomness, to be reseeded for every micro-batch.
    """
    source = RandomBytes()
    for module in list(model.modules()):
        if isinstance(getattr(module, "dropout_prob", None), float):  # self-attention
            setattr(module, "dropout_prob", 0.0)  # noqa: B010 - typed as a submodule
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, ByteDropout(child.p, source))
    return source
