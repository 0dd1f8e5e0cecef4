"""Whose turn it is: by priority, by share of the engine, by deadline.

Requests of one client and priority are a flow. The ranking's time is the tokens that a flow would
have been given by now if all that wait had got equal shares all the time. A flow has a start: what
it was really given, counted from the time at which it came. Whoever would be finished first is
served next: a short question before somebody's next thousand windows, and two busy clients in turn.
Within a flow, and between flows that are about as far, the earliest deadline goes first.

Source: weighted fair queueing, Demers, Keshav and Shenker, SIGCOMM 1989; time advances by batches.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Hashable
from dataclasses import dataclass, field

from bert_rt.scheduling.requests import Asked, Request

__all__ = ["Flow", "Ranking"]

# Flows whose finish lies in the same eighth of a turn are about as far.
_STEPS_A_TURN = 8
# Starts of clients that have nothing in the queue, kept while they matter.
_KEPT_STARTS = 1024

_Key = tuple[int, Hashable]
_Entry = tuple[int, int, float, float, int, int, "Flow"]


@dataclass(slots=True, eq=False)
class Flow:
    """The requests of one client with one priority.

    Attributes:
        key: Level of the priority, and the client; of a request by itself its arrival.
        start: Tokens that it is entitled to, as the module says.
        requests: Those with windows in no batch, by their order.
        num_left: Tokens of those windows.
        version: Entries of the heap with another one are stale.
        is_out: Whether pop has given it out.
    """

    key: _Key
    start: float
    requests: list[Request] = field(default_factory=list)
    num_left: int = 0
    version: int = 0
    is_out: bool = False

    def remove(self, request: Request) -> None:
        """Take a request out, which is in it."""
        place = bisect_left(self.requests, request.order, key=lambda other: other.order)
        assert self.requests[place] is request
        del self.requests[place]
        self.num_left -= request.num_left
        request.flow = None


class Ranking:
    """Flows in the order in which they are to be served."""

    def __init__(self, *, turn_tokens: int) -> None:
        """Make an empty ranking.

        Args:
            turn_tokens: What a flow is given at a time, at most: a batch's worth.
        """
        self._turn_tokens = turn_tokens
        self._flows: dict[_Key, Flow] = {}
        self._heap: list[_Entry] = []
        self._starts: dict[_Key, float] = {}
        self._time = 0.0

    def add(self, request: Request) -> None:
        """Put a request into its flow."""
        key = _key(request.asked, request.arrival)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = Flow(key, self._start_of(key))
            self._starts.pop(key, None)
        insort(flow.requests, request, key=lambda other: other.order)
        flow.num_left += request.num_left
        request.flow = flow
        self._enter(flow)

    def remove(self, request: Request) -> None:
        """Take a request out of its flow; harmless where it is in none."""
        flow = request.flow
        if flow is not None:
            flow.remove(request)
            self._enter(flow)

    def correct(self, request: Request, num_left: int) -> None:
        """Set what is left of a request, now that it is known better."""
        flow = request.flow
        if flow is not None:
            flow.num_left += num_left - request.num_left
        request.num_left = num_left
        if flow is not None:
            self._enter(flow)

    def pop(self) -> Flow | None:
        """Return the flow whose turn it is, without changing whose turn it will be.

        Returns:
            The flow, to be given back by push; None where all are out.
        """
        while self._heap:
            *_, version, flow = heapq.heappop(self._heap)
            if version == flow.version and flow.requests:
                flow.is_out = True
                return flow
        return None

    def push(self, flow: Flow) -> None:
        """Put back what pop has given out."""
        flow.is_out = False
        self._enter(flow)

    def serve(self, request: Request, num_tokens: int) -> None:
        """Charge a flow for windows of one of its requests that go into a batch.

        Args:
            request: With its waiting windows after that.
            num_tokens: Of the windows that go.
        """
        self._time += num_tokens / len(self._flows)
        flow = request.flow
        assert flow is not None
        flow.start += num_tokens
        flow.num_left -= num_tokens
        request.num_left -= num_tokens
        if not request.waiting:
            flow.remove(request)
        self._enter(flow)

    def tokens_before(self, asked: Asked, num_tokens: int) -> int:
        """Predict how many tokens would be computed before the last ones of a new request.

        Args:
            asked: What it wants.
            num_tokens: Its own, which are not counted.

        Returns:
            Tokens of those in the ranking.
        """
        key = _key(asked, -1)
        own = self._flows.get(key)
        num_own = 0
        if own is not None:
            num_own = sum(
                other.num_left
                for other in own.requests
                if other.asked.deadline_s <= asked.deadline_s
            )
        start = self._start_of(key) if own is None else own.start
        finish = start + num_own + num_tokens
        total: float = num_own
        for flow in self._flows.values():
            if flow is own or flow.key[0] > asked.level:
                continue
            if flow.key[0] < asked.level:
                total += flow.num_left
            else:
                turn = min(self._turn_tokens, flow.num_left) or 1
                total += min(flow.num_left, max(0.0, (finish - flow.start) // turn * turn))
        return math.ceil(total)

    def _start_of(self, key: _Key) -> float:
        return max(self._time, self._starts.get(key, 0.0))

    def _enter(self, flow: Flow) -> None:
        """Give a flow its place, or forget it where it has nothing left."""
        flow.version += 1
        if flow.is_out:
            return
        if not flow.requests:
            self._retire(flow)
            return
        finish = flow.start + min(self._turn_tokens, flow.num_left)
        step = math.ceil(finish * _STEPS_A_TURN / self._turn_tokens)
        deadline_s, arrival = flow.requests[0].order
        entry = (flow.key[0], step, deadline_s, finish, arrival, flow.version, flow)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 4 * len(self._flows) + 64:
            self._heap = [entry for entry in self._heap if entry[-2] == entry[-1].version]
            heapq.heapify(self._heap)

    def _retire(self, flow: Flow) -> None:
        self._flows.pop(flow.key, None)
        if isinstance(flow.key[1], tuple):  # Others do not come again.
            self._starts[flow.key] = flow.start
        if not self._flows:
            # Nobody competes any more: whoever comes next starts anew.
            self._time = max([self._time, flow.start, *self._starts.values()])
            self._starts.clear()
        elif len(self._starts) > _KEPT_STARTS:
            self._starts = {k: start for k, start in self._starts.items() if start > self._time}


def _key(asked: Asked, arrival: int) -> _Key:
    # A tuple for a client's own key, so that it never equals an arrival.
    return asked.level, arrival if asked.client is None else (asked.client,)
