"""Windows of many callers -> one batch at a time. No thread, no lock and no clock in here.

    submit -> fill -> next_batch -> complete | fail | put_back
                      join, leave: while it runs
              cancel, check, drain, stats

A request is admitted by an estimate of its tokens, before anybody tokenizes it, and is ranked from
then on; fill says what it is really. next_batch plans one batch, of what has arrived by then, in
the order of bert_rt.scheduling.ranking. What will not be read any more (cancelled, or too late) is
not planned. Where a batch fails, the windows of each of its requests are run again by themselves,
so that the one at fault fails alone.

Callers hand in the time and hold the lock: bert_rt.scheduling.scheduler does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from bert_rt.errors import (
    BertRtError,
    EngineInternalError,
    EngineUnavailableError,
    InputTooLongError,
    OverloadedError,
)
from bert_rt.scheduling.batches import Batch, QueueStats, Window
from bert_rt.scheduling.forecast import Forecast
from bert_rt.scheduling.ledger import Ledger
from bert_rt.scheduling.planning import Planner
from bert_rt.scheduling.ranking import Flow, Ranking
from bert_rt.scheduling.requests import Asked, Request, RequestCancelledError
from bert_rt.types import Outputs, TokenSequence

__all__ = ["Queue"]

# A request whose wait is predicted for QueueStats.
_USUAL_TOKENS = 512
# A request is given up before its deadline only where even nine tenths of the time that its batch
# is predicted to take are not left.
_SURE = 0.9


class Queue:
    """Requests that wait, and what is computed next. Not thread-safe."""

    def __init__(
        self,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        is_packed: bool,
        max_batch_s: float | None = None,
    ) -> None:
        """Make an empty queue.

        Args:
            max_batch_tokens: Most tokens of a batch, padding counted where the engine pads.
            max_queue_tokens: Most tokens of unfinished requests together; a single request may
                have more while there is no other.
            is_packed: Whether the engine computes without padding.
            max_batch_s: Most seconds that a batch should take, by what was measured; None for no
                other limit than max_batch_tokens.
        """
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_tokens = max_queue_tokens
        self._is_packed = is_packed
        self._ranking = Ranking(turn_tokens=max_batch_tokens)
        self._again: deque[list[Window]] = deque()
        self._running: Batch | None = None
        self._is_draining = False
        self._num_arrived = self._num_batches = self._num_batch_tokens = self._num_windows = 0
        self._forecast = Forecast(max_batch_tokens=max_batch_tokens, max_batch_s=max_batch_s)
        self._ledger = Ledger(self._ranking, self._forecast)
        self._planner = Planner(self._ranking, self._forecast, self._ledger, is_packed=is_packed)

    @property
    def running(self) -> Batch | None:
        """The batch that runs."""
        return self._running

    @property
    def is_empty(self) -> bool:
        """Whether every request that was admitted is done."""
        return not self._ledger.requests

    # Admission.

    def submit(
        self,
        num_tokens: int,
        now: float,
        asked: Asked | None = None,
        *,
        is_deferred: bool = False,
        on_done: Callable[[Request], None] | None = None,
    ) -> Request:
        """Admit a request, or refuse it.

        Args:
            num_tokens: About how many it has.
            now: The time.
            asked: Deadline, priority and so on.
            is_deferred: Whether its windows are to be made when take_deferred gives it out;
                otherwise fill is called without being asked.
            on_done: Called when it is done, whichever way.

        Returns:
            The request. It counts until it is done: computed, failed or cancelled.

        Raises:
            OverloadedError: Too many tokens are waiting already, or it would be done after its
                deadline.
            EngineUnavailableError: The queue is being drained.
        """
        asked = asked or Asked()
        if self._is_draining:
            raise EngineUnavailableError("queue: takes no new requests, since it is being drained")
        num_left = self._forecast.likely_tokens(num_tokens)
        refusal = self._refusal(num_tokens, num_left, now, asked)
        if refusal is not None and self._ledger.drop_unwanted(now):
            refusal = self._refusal(num_tokens, num_left, now, asked)
        if refusal is not None:
            raise refusal
        self._num_arrived += 1
        request = Request(
            asked, self._num_arrived, num_tokens, num_left, num_tokens, is_deferred, on_done
        )
        self._ledger.add(request)
        return request

    def fill(self, request: Request, windows: Sequence[TokenSequence]) -> None:
        """Say what the windows of a request are; corrects its estimate.

        Args:
            request: An admitted one. Where it is done already, nothing happens.
            windows: None longer than max_batch_tokens; where there are none, it is done.

        Raises:
            InputTooLongError: A window is longer; the request is as before.
        """
        if request.is_done:
            return
        lengths = [window.num_tokens for window in windows]
        for index, length in enumerate(lengths):
            if length > self._max_batch_tokens:
                raise InputTooLongError(
                    f"lengths[{index}]: got {length} tokens, want at most max_tokens = "
                    f"{self._max_batch_tokens}"
                )
        total = sum(lengths)
        self._forecast.learn_estimate(request.estimate, total)
        request.windows, request.lengths, request.is_known = windows, lengths, True
        request.waiting = list(range(len(lengths)))
        if not self._is_packed:  # Batches of like lengths have little padding.
            request.waiting.sort(key=lambda index: -lengths[index])
        self._ledger.correct(request, total)
        if not windows:
            self._ledger.finish(request)

    def take_deferred(self, now: float) -> list[Request]:
        """Return the deferred requests that come next, for their windows to be made.

        Args:
            now: The time.

        Returns:
            Requests of about one batch, in their order; each is given out once.
        """
        self._ledger.expire(now)
        taken: list[Request] = []
        flows: list[Flow] = []
        room, budget = self._planner.offered_tokens, self._forecast.budget
        while room > 0 and (flow := self._ranking.pop()) is not None:
            flows.append(flow)
            for request in list(flow.requests):
                if room <= 0 or self._ledger.is_unwanted(request, now):
                    continue
                if request.is_deferred:
                    request.is_deferred = False
                    taken.append(request)
                elif not request.is_known:  # Somebody else is at it.
                    continue
                room -= min(request.num_left, budget)
        for flow in flows:
            self._ranking.push(flow)
        return taken

    # Batches.

    def next_batch(self, now: float, *, since: float | None = None) -> Batch | None:
        """Plan the batch that is computed now.

        Args:
            now: The time.
            since: Since when the driver has waited for cores; None for now.

        Returns:
            The batch, to be given back by complete, fail or put_back; None where nothing waits.
        """
        assert self._running is None, "next_batch: a batch runs"
        self._ledger.expire(now)
        windows: list[Window] = []
        while self._again and not windows:
            windows = [
                window
                for window in self._again.popleft()
                if not self._ledger.is_unwanted(window[0], now, is_late_only=True)
            ]
        is_again = bool(windows)
        windows = windows or self._planner.plan(now)
        if not windows:
            return None
        lengths = [request.lengths[index] for request, index in windows]
        cost = sum(lengths) if self._is_packed else max(lengths) * len(lengths)
        self._running = Batch({}, 0, 0, now, now if since is None else since, is_again)
        self._running.add(windows, cost)
        return self._running

    def join(self, batch: Batch, now: float, most: int) -> list[TokenSequence]:
        """Add windows to the batch that runs, where the engine computes step by step.

        Args:
            batch: What next_batch returned.
            now: The time.
            most: How many at most.

        Returns:
            The windows; none where others have failed and are to be computed by themselves.
        """
        if most <= 0 or batch.is_again or self._again:
            return []
        self._ledger.expire(now)
        windows = self._planner.plan(now, most)
        lengths = [request.lengths[index] for request, index in windows]
        batch.add(windows, sum(lengths))
        return [request.windows[index] for request, index in windows]

    def leave(self, batch: Batch, now: float) -> list[int]:
        """Take the windows out of the batch that runs that nobody waits for any more.

        Args:
            batch: What next_batch returned.
            now: The time.

        Returns:
            Their numbers.
        """
        gone = [
            number
            for number, (request, _) in batch.windows.items()
            if self._ledger.is_unwanted(request, now, is_late_only=True)
        ]
        batch.remove(gone)
        self._ledger.num_unwanted += len(gone)
        return gone

    def complete(self, batch: Batch, outputs: Mapping[int, Outputs], now: float) -> None:
        """Take the outputs of a batch, or of those of its windows that are done.

        Args:
            batch: What next_batch returned.
            outputs: By the number of the window; none where all that was left have left.
            now: The time.
        """
        windows, num_tokens, cost = batch.remove(outputs)
        if not batch.windows:
            self._running = None
        if not windows:
            return
        self._num_batches += 1
        self._num_batch_tokens += num_tokens
        self._num_windows += len(windows)
        self._forecast.learn(num_tokens, cost, batch, now)
        batch.started_s = batch.since_s = now
        for (request, index), output in zip(windows, outputs.values(), strict=True):
            if request.is_done:
                self._ledger.num_unwanted += 1
                continue
            request.results[index] = output
            if len(request.results) == len(request.windows):
                if now >= request.asked.deadline_s:
                    self._ledger.num_unwanted += len(request.windows)
                self._ledger.finish(request)

    def fail(self, batch: Batch, error: BaseException) -> None:
        """Take the error of a batch: of one request it is its own, of several nobody's yet.

        Args:
            batch: What next_batch returned.
            error: What the engine raised.
        """
        self._running = None
        if not isinstance(error, BertRtError):
            wrapped = EngineInternalError(str(error) or type(error).__name__)
            wrapped.__cause__ = error
            error = wrapped
        requests = batch.requests
        is_everybodys = len(requests) == 1 or isinstance(error, EngineUnavailableError)
        for request, indices in requests.items():
            if request.is_done:
                continue
            if is_everybodys:
                self._ledger.finish(request, error)
            else:
                self._again.append([(request, index) for index in indices])

    def put_back(self, batch: Batch) -> None:
        """Take back a batch that was not computed; it comes next."""
        self._running = None
        self._again.appendleft(list(batch.windows.values()))

    # The end of requests.

    def cancel(self, request: Request, error: BaseException | None = None) -> None:
        """Take a request out at once, and give its room back; harmless where it is done.

        Args:
            request: The request.
            error: Why; None where its caller has cancelled it.
        """
        if not request.is_done:
            self._ledger.finish(request, error or RequestCancelledError())

    def check(self, request: Request, now: float) -> None:
        """End a request that is cancelled or whose deadline has passed."""
        self._ledger.is_unwanted(request, now, is_late_only=True)

    def drain(self) -> None:
        """Refuse new requests from now on; those that wait are computed."""
        self._is_draining = True

    def fail_all(self, error: BaseException) -> None:
        """End every request with an error."""
        for request in list(self._ledger.requests):
            self._ledger.finish(request, error)

    def stats(self, now: float) -> QueueStats:
        """Return how much waits, and what was done."""
        before = self._ranking.tokens_before(Asked(), _USUAL_TOKENS)
        running_s = self._forecast.seconds_left(self._running, now)
        return QueueStats(
            num_requests=len(self._ledger.requests),
            num_tokens=self._ledger.num_tokens,
            predicted_wait_s=running_s + self._forecast.seconds(before),
            tokens_per_second=self._forecast.tokens_per_second,
            num_batches=self._num_batches,
            num_batch_tokens=self._num_batch_tokens,
            num_windows=self._num_windows,
            num_unwanted_windows=self._ledger.num_unwanted,
            running_s=0.0 if self._running is None else now - self._running.started_s,
        )

    # Inside.

    def _refusal(
        self, num_tokens: int, num_left: int, now: float, asked: Asked
    ) -> OverloadedError | None:
        """Return why a request is not admitted; one that comes alone always is."""
        if not self._ledger.requests:
            return None
        total = self._ledger.num_tokens + num_tokens
        if total > self._max_queue_tokens:
            seconds = self._forecast.seconds(total - self._max_queue_tokens)
            return OverloadedError(
                f"queue: got a request of {num_tokens} tokens while {self._ledger.num_tokens} are "
                f"waiting, want at most max_queue_tokens = {self._max_queue_tokens} together; "
                "try again later",
                retry_after_s=seconds or None,
            )
        left_s = asked.deadline_s - now
        if math.isinf(left_s) or left_s <= 0:  # Too late already is another error.
            return None
        predicted_s = self._predicted_s(num_left, now, asked, enough_s=left_s)
        if predicted_s <= left_s:
            return None
        return OverloadedError(
            f"deadline: got {left_s:.3f} s for a request whose result is predicted in "
            f"{predicted_s:.3f} s, by what is waiting; want more time, or try again later",
            retry_after_s=predicted_s - left_s,
        )

    def _predicted_s(self, num_left: int, now: float, asked: Asked, *, enough_s: float) -> float:
        """Predict when a new request is done; roughly where that is soon enough."""
        running_s = self._forecast.seconds_left(self._running, now)
        total = self._ledger.num_left + num_left
        longest_s = running_s + self._forecast.seconds(total)
        if longest_s <= enough_s:
            return longest_s
        tokens = self._ranking.tokens_before(asked, num_left) + num_left
        return running_s + self._forecast.seconds_to_end_of(tokens, total)
