"""Which of the windows that are offered go into the next batch."""

from __future__ import annotations

from itertools import accumulate

from bert_rt.scheduling.requests import Request

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
        fit the next request's are tried. For padded ones those of like lengths, longest first:
        of all neighbours by length with the first window among them, the ones with most tokens.
    """
    windows = [(request, index) for request, indices in offers for index in indices]
    if not windows:
        return []
    if not is_packed:
        lengths = [request.lengths[index] for request, index in windows]
        return [windows[position] for position in _of_like_lengths(lengths, budget)]
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


def _of_like_lengths(lengths: list[int], budget: int) -> list[int]:
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    sums = [0, *accumulate(lengths[position] for position in order)]
    first = order.index(0)
    best, most = (first, first + 1), 0
    for begin in range(first + 1):
        width = lengths[order[begin]]
        end = min(len(order), begin + budget // width)
        if end > first and sums[end] - sums[begin] > most:
            best, most = (begin, end), sums[end] - sums[begin]
    return order[slice(*best)]
