"""The learning rate over a run that ends with its steps, its time or both."""

from __future__ import annotations

__all__ = ["progress_of", "rate_at"]


def progress_of(
    step: int, total_steps: int | None, elapsed_s: float, max_seconds: float | None
) -> float:
    """Tell how much of a run is done.

    Args:
        step: Steps that are done.
        total_steps: Steps of the run; None for no limit.
        elapsed_s: Seconds that are gone.
        max_seconds: Seconds of the run; None for no limit.

    Returns:
        The share in [0, 1] by whichever limit is nearer; 1 where the run is over.
    """
    by_steps = 0.0 if total_steps is None else step / total_steps
    by_time = 0.0 if max_seconds is None else elapsed_s / max_seconds
    return min(1.0, max(by_steps, by_time))


def rate_at(progress: float, warmup_ratio: float) -> float:
    """Return the learning rate over the largest one: a linear rise, then a linear fall to 0.

    Args:
        progress: Share of the run that is done, in [0, 1].
        warmup_ratio: Share of the run in which the rate rises.

    Returns:
        A factor in [0, 1].

    Source: Devlin et al. 2018, arXiv:1810.04805, appendix A.2.
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    return (1.0 - progress) / (1.0 - warmup_ratio) if warmup_ratio < 1.0 else 1.0
