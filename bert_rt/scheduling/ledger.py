"""The requests that are not done, what they count together, and how they end."""

from __future__ import annotations

import heapq
import math

from bert_rt.errors import DeadlineExceededError
from bert_rt.scheduling.forecast import Forecast
from bert_rt.scheduling.ranking import Ranking
from bert_rt.scheduling.requests import Request, RequestCancelledError

__all__ = ["Ledger"]

# A request is given up before its deadline where its batch would end after it if it took a tenth
# longer than predicted, which is about how much batches differ.
_MARGIN = 1.1


class Ledger:
    """Open requests. Whatever ends a request ends it here.

    Attributes:
        requests: By arrival; an ordered set.
        num_tokens: Tokens of them, those included that were computed.
        num_left: Tokens of their windows that are in no batch yet.
        num_unwanted: Windows that were computed for nobody.
    """

    def __init__(self, ranking: Ranking, forecast: Forecast) -> None:
        """Hold no request.

        Args:
            ranking: Which requests leave when they end.
            forecast: Tells which ones would be late.
        """
        self.requests: dict[Request, None] = {}
        self.num_tokens = self.num_left = self.num_unwanted = 0
        self._ranking = ranking
        self._forecast = forecast
        self._deadlines: list[tuple[float, int, Request]] = []  # a heap
        self._flagged: dict[Request, None] = {}  # those whose cancellation must be looked for

    def add(self, request: Request) -> None:
        """Take a request that was admitted."""
        self.requests[request] = None
        self.num_tokens += request.num_tokens
        self.num_left += request.num_left
        self._ranking.add(request)
        if request.asked.cancelled is not None:
            self._flagged[request] = None
        if math.isinf(request.asked.deadline_s):
            return
        heapq.heappush(self._deadlines, (*request.order, request))
        if len(self._deadlines) > 2 * len(self.requests) + 64:
            self._deadlines = [entry for entry in self._deadlines if not entry[-1].is_done]
            heapq.heapify(self._deadlines)

    def correct(self, request: Request, num_tokens: int) -> None:
        """Replace the estimate of a request by its tokens."""
        self.num_tokens += num_tokens - request.num_tokens
        self.num_left += num_tokens - request.num_left
        request.num_tokens = num_tokens
        self._ranking.correct(request, num_tokens)

    def serve(self, request: Request, indices: set[int]) -> None:
        """Move windows of a request from those that wait into a batch."""
        request.waiting = [index for index in request.waiting if index not in indices]
        num_tokens = sum(request.lengths[index] for index in indices)
        self.num_left -= num_tokens
        self._ranking.serve(request, num_tokens)

    def finish(self, request: Request, error: BaseException | None = None) -> None:
        """End a request; with an error, what was computed of it was for nobody."""
        request.error = error
        request.is_done = True
        self._ranking.remove(request)
        del self.requests[request]
        self._flagged.pop(request, None)
        self.num_tokens -= request.num_tokens
        self.num_left -= request.num_left
        request.num_left = 0
        request.waiting = []
        if error is not None:
            self.num_unwanted += len(request.results)
            request.results = {}
        if request.on_done is not None:
            request.on_done(request)

    def expire(self, now: float) -> None:
        """End the requests whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            self.is_unwanted(heapq.heappop(self._deadlines)[-1], now)

    def drop_unwanted(self, now: float) -> bool:
        """End what is cancelled or too late, since it holds room for nobody; whether there was."""
        before = len(self.requests)
        self.expire(now)
        for request in list(self._flagged):
            self.is_unwanted(request, now, is_late_only=True)
        return len(self.requests) < before

    def is_unwanted(self, request: Request, now: float, *, is_late_only: bool = False) -> bool:
        """Whether nobody waits for a request's windows any more; it is done then.

        Args:
            request: The request.
            now: The time.
            is_late_only: Whether to leave a request alone that is only predicted to be late.

        Returns:
            Whether it is done.
        """
        if request.is_done:
            return True
        left_s = request.asked.deadline_s - now
        if request.is_cancelled:
            self.finish(request, RequestCancelledError())
        elif left_s <= 0:
            self.finish(request, DeadlineExceededError(f"deadline: passed {request.progress}"))
        elif not is_late_only and self._is_hopeless(request, left_s):
            self.finish(
                request,
                DeadlineExceededError(
                    f"deadline: got {left_s:.3f} s more, too little for what is left of a "
                    f"request {request.progress}"
                ),
            )
        return request.is_done

    def _is_hopeless(self, request: Request, left_s: float) -> bool:
        """Whether a request would be late if it were computed next, and others want the engine."""
        if math.isinf(left_s) or self.num_left <= request.num_left:
            # Without others it is tried: the prediction may be wrong, and this measures it anew.
            return False
        tokens = max(request.num_left, min(self._forecast.budget, self.num_left))
        return _MARGIN * self._forecast.seconds(tokens) > left_s
