"""What is summed up between two lines of metrics.jsonl, and how fast the machine could be."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Meter", "encoder_flops", "matmul_rate"]


def matmul_rate(device: torch.device, dtype: torch.dtype | None) -> float:
    """Measure how fast torch multiplies large matrices here.

    Args:
        device: Where.
        dtype: In what; None for float32.

    Returns:
        Floating-point operations a second, the best of some tries.
    """
    size = 1024 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, dtype=dtype or torch.float32, device=device)
    best_s = float("inf")
    for _ in range(5):
        start_s = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for a GPU
        best_s = min(best_s, time.perf_counter() - start_s)
    return 2.0 * size**3 / best_s


def encoder_flops(model: nn.Module) -> float:
    """Count what the encoder's linear layers cost for a token, forward and backward.

    Attention, heads and a teacher are left out, so that a share of the peak is rather too small; of
    split layers it is too large, as tokens of a passage go through them once for several rows.

    Args:
        model: A model with an encoder.

    Returns:
        Floating-point operations: a product and a sum for each weight, three times.
    """
    linears = (
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "encoder.layer." in name
    )
    return 6.0 * sum(linear.weight.numel() for linear in linears)


class Meter:
    """Means and rates since the last line."""

    def __init__(self, peak_rate: float, flops_per_token: float) -> None:
        """Start with nothing.

        Args:
            peak_rate: What matmul_rate measured, times the processes.
            flops_per_token: What encoder_flops counted.
        """
        self._peak_rate = peak_rate
        self._flops_per_token = flops_per_token
        self._clear()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._tokens = 0
        self._positions = 0
        self._start_s = time.perf_counter()

    @property
    def is_empty(self) -> bool:
        """Whether no step has been counted."""
        return self._steps == 0

    def add(self, values: Mapping[str, Tensor], share: float = 1.0) -> None:
        """Add a step's values, or its share of them.

        Args:
            values: Detached scalars by name; they are read only with the next line, so that a
                GPU is not waited for.
            share: Their weight in the step's mean.
        """
        for name, value in values.items():
            weighted = value.detach().float() * share
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted

    def count(self, *, steps: int = 0, tokens: int = 0, positions: int = 0) -> None:
        """Count steps, tokens without padding and tokens with padding."""
        self._steps += steps
        self._tokens += tokens
        self._positions += positions

    @property
    def counts(self) -> tuple[int, int]:
        """Tokens without and with padding since the last line."""
        return self._tokens, self._positions

    def means(self) -> dict[str, float]:
        """Return the mean of every value over the steps."""
        return {name: float(value) / self._steps for name, value in self._sums.items()}

    def rates(self, tokens: float, positions: float) -> dict[str, float]:
        """Return the rates since the last line.

        Args:
            tokens: Tokens without padding, over all processes.
            positions: Tokens with padding, over all processes.

        Returns:
            tokens_per_second, padding (share of the positions) and mfu, the share of the peak
            that the encoder's products on tokens took.
        """
        seconds = max(time.perf_counter() - self._start_s, 1e-9)
        rate = tokens / seconds
        return {
            "tokens_per_second": rate,
            "padding": 1.0 - tokens / max(positions, 1.0),
            "mfu": rate * self._flops_per_token / self._peak_rate,
        }

    def restart(self) -> None:
        """Begin the next line."""
        self._clear()
