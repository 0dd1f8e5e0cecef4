"""Which of the windows that are offered go into the next batch."""

from __future__ import annotations

from bert_rt.engines.packing import plan_batches
from bert_rt.engines.requests import Request

__all__ = ["Offer", "choose"]

Offer = tuple[Request, list[int]]
"""A request, and those of its waiting windows that may be taken, in their order."""


def choose(offers: list[Offer], budget: int, *, is_packed: bool) -> list[tuple[Request, int]]:
    """Choose the windows of one batch.

    Args:
        offers: In the order of whose turn it is.
        budget: Most tokens, padding counted where the engine pads. The first window is taken in
            any case.
        is_packed: Whether the engine computes without padding.

    Returns:
        For packed engines the windows in the order offered; of a request whose next window does not
        fit the next request's are tried. For padded ones that batch of the plan of all windows,
        longest first, which holds the first one.
    """
    windows = [(request, index) for request, indices in offers for index in indices]
    if not windows:
        return []
    if not is_packed:
        lengths = [request.lengths[index] for request, index in windows]
        plan = plan_batches(lengths, max_tokens=max(budget, *lengths), is_packed=False)
        (batch,) = (batch for batch in plan if 0 in batch)
        return [windows[position] for position in batch]
    chosen: list[tuple[Request, int]] = []
    cost = 0
    for request, indices in offers:
        for index in indices:
            length = request.lengths[index]
            if chosen and cost + length > budget:
                break
            chosen.append((request, index))
            cost += length
    return chosen
