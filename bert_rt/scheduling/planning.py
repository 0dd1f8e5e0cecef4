"""Which of the windows that are offered go into the next batch."""

from __future__ import annotations

from itertools import accumulate

from bert_rt.scheduling.batches import Window
from bert_rt.scheduling.forecast import Forecast
from bert_rt.scheduling.ledger import Ledger
from bert_rt.scheduling.ranking import Flow, Ranking
from bert_rt.scheduling.requests import Request

__all__ = ["Offer", "Planner", "choose"]

Offer = tuple[Request, list[int]]
"""A request, and those of its waiting windows that may be taken, in their order."""


# What is offered to a batch, in batches: so much room to find windows that fill it (packed), or
# that are of like lengths (padded).
_OFFERED_PACKED = 1.5
_OFFERED_PADDED = 4.0
# Flows without a known window that are passed by once there is something to compute.
_MOST_PASSED = 64


class Planner:
    """Plans batches of what waits, in the order of its ranking."""

    def __init__(
        self, ranking: Ranking, forecast: Forecast, ledger: Ledger, *, is_packed: bool
    ) -> None:
        """Plan for a queue.

        Args:
            ranking: Whose turn it is.
            forecast: Tells how large a batch should be.
            ledger: Tells what is still wanted, and hears what is taken.
            is_packed: Whether the engine computes without padding.
        """
        self._ranking, self._forecast, self._ledger = ranking, forecast, ledger
        self._is_packed = is_packed

    @property
    def offered_tokens(self) -> float:
        """How many tokens are offered to a batch."""
        return self._forecast.budget * (_OFFERED_PACKED if self._is_packed else _OFFERED_PADDED)

    def plan(self, now: float, most: int | None = None) -> list[Window]:
        """Take the windows of the next batch from those that wait.

        Args:
            now: The time.
            most: How many windows may join the batch that runs; None for a batch of its own.

        Returns:
            The windows; none where nothing waits.
        """
        budget = self._forecast.budget
        offers: list[Offer] = []
        flows: list[Flow] = []
        room, num_passed = self.offered_tokens, 0
        while room > 0 and (flow := self._ranking.pop()) is not None:
            flows.append(flow)
            num_offered = self._offer(flow, budget, now, offers)
            room -= num_offered
            num_passed += not num_offered
            if offers and num_passed > _MOST_PASSED:
                break
        # Those that join others are not padded with each other alone.
        is_packed = self._is_packed or most is not None
        windows = choose(offers, budget, is_packed=is_packed)[:most]
        chosen: dict[Request, set[int]] = {}
        for request, index in windows:
            chosen.setdefault(request, set()).add(index)
        for request, indices in chosen.items():
            self._ledger.serve(request, indices)
        for flow in flows:
            self._ranking.push(flow)
        return windows

    def _offer(self, flow: Flow, budget: int, now: float, offers: list[Offer]) -> int:
        """Offer a turn's worth of a flow's windows, and return their tokens."""
        num_offered = 0
        for request in list(flow.requests):
            if num_offered > budget:
                break
            if self._ledger.is_unwanted(request, now) or not request.is_known:
                continue
            indices: list[int] = []
            for index in request.waiting:
                indices.append(index)
                num_offered += request.lengths[index]
                if num_offered > budget:
                    break
            offers.append((request, indices))
        return num_offered


def choose(offers: list[Offer], budget: int, *, is_packed: bool) -> list[Window]:
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
    chosen: list[Window] = []
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
