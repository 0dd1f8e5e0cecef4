"""Windows of many threads -> batches for one engine, one batch at a time.

There is no thread of its own. Whoever finds the engine free becomes the leader and runs batches
until its own windows are done, then hands over; the others sleep until theirs are. Windows that
arrive while a batch runs are put together into the next ones, which is how concurrent requests
are coalesced. An idle scheduler adds no latency, and there is nothing to stop at exit. A caller
that must not sleep, such as an event loop, has one thread drive all of its requests (submit, drive;
see bert_rt.tasks.driver).

Batches are planned in rounds. To a round every request gives at most one batch's worth of
windows, so a question never waits for all of somebody's thousand documents, and nobody starves.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from bert_rt.engines.base import Engine
from bert_rt.engines.packing import pack, plan_batches
from bert_rt.errors import (
    BertRtError,
    DeadlineExceededError,
    EngineInternalError,
    EngineUnavailableError,
    OverloadedError,
)
from bert_rt.types import PER_TOKEN, Outputs, PackedBatch, TokenSequence

__all__ = ["CancelFlag", "QueueStats", "Request", "RequestCancelledError", "Scheduler"]


_CLOSED = "engine: is closed, want an open Runtime"


class CancelFlag(Protocol):
    """What tells that a request is no longer wanted, such as threading.Event."""

    def is_set(self) -> bool:
        """Whether it is cancelled."""
        ...


class RequestCancelledError(Exception):
    """A request was cancelled by its own caller, who knows; so it is no BertRtError."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What waits, the batch that runs included.

    Attributes:
        num_requests: Requests with unfinished windows.
        num_tokens: Tokens of unfinished requests, and those that were reserved.
    """

    num_requests: int
    num_tokens: int


class Scheduler:
    """Runs the windows of concurrent requests on one engine. Thread-safe and fork-safe."""

    def __init__(self, engine: Engine, *, max_batch_tokens: int, max_queue_tokens: int) -> None:
        """Take over an engine.

        Args:
            engine: Called by one thread at a time.
            max_batch_tokens: Most tokens of a batch, padding counted where the engine pads.
            max_queue_tokens: Most tokens of unfinished requests together; a single request may
                have more while there is no other.
        """
        self._engine = engine
        self._is_packed = engine.info.is_packed
        self._kinds = engine.outputs
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_tokens = max_queue_tokens
        self._is_closed = False
        self._reset()
        _SCHEDULERS.add(self)

    def _reset(self) -> None:
        # In a forked process the threads that held the lock or waited are gone.
        self._condition = threading.Condition()
        self._requests: dict[Request, None] = {}  # an ordered set, by arrival
        self._round: deque[_Batch] = deque()
        self._num_tokens = 0
        self._is_led = False

    def run(
        self,
        features: Sequence[TokenSequence],
        *,
        deadline_s: float = math.inf,
        cancelled: CancelFlag | None = None,
        num_reserved: int | None = None,
    ) -> list[Outputs]:
        """Compute the outputs of some windows, together with those of other threads.

        Args:
            features: Windows, none longer than max_batch_tokens.
            deadline_s: When to give up, in seconds of time.monotonic. A batch that runs is
                waited for.
            cancelled: Give up when this is set; looked at between batches.
            num_reserved: What reserve returned for these windows; None to be admitted now.

        Returns:
            For every window its outputs by name: of shape (T, ...) per token, else (...).

        Raises:
            OverloadedError: Too many tokens are waiting already; nothing was computed.
            DeadlineExceededError: The deadline has passed.
            RequestCancelledError: The request was cancelled.
            EngineInternalError: The engine failed on a batch with one of these windows.
            EngineUnavailableError: The scheduler is closed.
        """
        request = self.submit(
            features, deadline_s=deadline_s, cancelled=cancelled, num_reserved=num_reserved
        )
        try:
            while not request.is_done:
                self._lead_or_wait(request)
        finally:
            self.drop(request)
        return request.result()

    @property
    def stats(self) -> QueueStats:
        """Read how much waits at this moment."""
        with self._condition:
            return QueueStats(len(self._requests), self._num_tokens)

    def reserve(self, num_tokens: int) -> int:
        """Claim room in the queue before the exact number of tokens is known.

        Args:
            num_tokens: An estimate. It counts as waiting until submit, run or release gets it.

        Returns:
            The same number, for num_reserved.

        Raises:
            OverloadedError: Too many tokens are waiting already.
        """
        with self._condition:
            total = self._num_tokens + num_tokens
            if self._num_tokens and total > self._max_queue_tokens:
                raise OverloadedError(
                    f"queue: got a request of {num_tokens} tokens while "
                    f"{self._num_tokens} are waiting, want at most max_queue_tokens = "
                    f"{self._max_queue_tokens} together; try again later"
                )
            self._num_tokens = total
        return num_tokens

    def release(self, num_reserved: int) -> None:
        """Give back what reserve claimed, where no request comes of it."""
        with self._condition:
            self._num_tokens -= num_reserved

    def submit(
        self,
        features: Sequence[TokenSequence],
        *,
        deadline_s: float = math.inf,
        cancelled: CancelFlag | None = None,
        num_reserved: int | None = None,
    ) -> Request:
        """Put windows into the queue without waiting for them; drive computes them.

        Args:
            features: As in run.
            deadline_s: As in run.
            cancelled: As in run.
            num_reserved: What reserve returned for them; None to be admitted now.

        Returns:
            The request. Whoever submits it must drop it when it is done or no longer wanted.

        Raises:
            OverloadedError: Too many tokens are waiting already, and none were reserved.
        """
        lengths = [feature.num_tokens for feature in features]
        batches = plan_batches(
            lengths, max_tokens=self._max_batch_tokens, is_packed=self._is_packed
        )
        request = Request(features, deque(batches), sum(lengths), deadline_s, cancelled)
        if num_reserved is None:
            self.reserve(request.num_tokens)
        with self._condition:
            if num_reserved is not None:
                self._num_tokens += request.num_tokens - num_reserved
            self._requests[request] = None
        return request

    def drop(self, request: Request) -> None:
        """Take a request out of the queue, done or not. Dropping it twice is harmless."""
        with self._condition:
            if request in self._requests:
                del self._requests[request]
                self._num_tokens -= request.num_tokens
            request.is_dropped = True

    def drive(self) -> None:
        """Run one batch of what waits, or wait until the batch of another thread is done.

        It does nothing where nothing waits. Errors of the engine are the requests' own.

        Raises:
            EngineUnavailableError: The scheduler is closed.
        """
        with self._condition:
            if self._is_closed:
                raise EngineUnavailableError(_CLOSED)
            if self._is_led:
                self._condition.wait()
                return
            self._is_led = True
        try:
            self._run_batch()
        finally:
            with self._condition:
                self._is_led = False
                self._condition.notify_all()

    def close(self) -> None:
        """Close the engine once the batch that runs is done; waiting requests fail."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_led)
            self._is_closed = True
            self._engine.close()
            self._condition.notify_all()

    def _lead_or_wait(self, request: Request) -> None:
        """Run batches until the request is done, or wait for whoever does."""
        leads = False
        try:
            with self._condition:
                request.check_wanted()
                if self._is_closed:
                    raise EngineUnavailableError(_CLOSED)
                if self._is_led:
                    # Woken after every batch, so a cancellation is seen soon enough.
                    self._condition.wait(request.seconds_left())
                    return
                leads = self._is_led = True
            while not request.is_done:
                request.check_wanted()
                self._run_batch()
        finally:
            if leads:
                with self._condition:
                    self._is_led = False
                    self._condition.notify_all()

    def _run_batch(self) -> None:
        """Run the next batch and give every request its part, or its error."""
        with self._condition:
            batch = self._next_batch()
        if not batch:
            return
        packed = pack(
            [request.features[index] for request, index in batch],
            max_tokens=self._max_batch_tokens,
            is_all_read=False,
        )
        try:
            parts = _split(self._engine.run(packed), self._kinds, packed)
        except Exception as error:  # Whatever it is, waiting threads must learn of it.
            with self._condition:
                for request, _ in batch:
                    request.error = error
                    request.is_dropped = True
                self._condition.notify_all()
            return
        except BaseException:  # Ctrl-C hit the leader; the others' windows are still wanted.
            with self._condition:
                self._round.appendleft(batch)
            raise
        with self._condition:
            for (request, index), part in zip(batch, parts, strict=True):
                request.results[index] = part
            self._condition.notify_all()

    def _next_batch(self) -> _Batch:
        """Return the next batch of windows that are still wanted; empty where there are none."""
        while True:
            if not self._round:
                self._round.extend(self._plan_round())
            if not self._round:
                return []
            batch = [window for window in self._round.popleft() if not window[0].is_unwanted]
            if batch:
                return batch

    def _plan_round(self) -> list[_Batch]:
        parts = [
            (request, request.batches.popleft()) for request in self._requests if request.batches
        ]
        windows = [(request, index) for request, indices in parts for index in indices]
        if len(parts) == 1:  # What one request gives is a batch already.
            return [windows]
        lengths = [request.features[index].num_tokens for request, index in windows]
        plan = plan_batches(lengths, max_tokens=self._max_batch_tokens, is_packed=self._is_packed)
        return [[windows[position] for position in batch] for batch in plan]


@dataclass(slots=True, eq=False)
class Request:
    """The windows of one call of submit or run, and what has become of them."""

    features: Sequence[TokenSequence]
    batches: deque[list[int]]  # windows that are in no round yet
    num_tokens: int
    deadline_s: float
    cancelled: CancelFlag | None
    results: dict[int, Outputs] = field(default_factory=dict)
    error: Exception | None = None
    is_dropped: bool = False

    @property
    def is_done(self) -> bool:
        """Whether result returns or raises at once."""
        return len(self.results) == len(self.features) or self.error is not None

    @property
    def is_unwanted(self) -> bool:
        """Whether its windows need not be computed any more."""
        return self.is_dropped or (self.cancelled is not None and self.cancelled.is_set())

    def seconds_left(self) -> float | None:
        """Return the time to the deadline; None where there is none."""
        return None if math.isinf(self.deadline_s) else max(0.0, self.deadline_s - time.monotonic())

    def check_wanted(self) -> None:
        """Raise DeadlineExceededError or RequestCancelledError where that is so."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise RequestCancelledError
        if time.monotonic() >= self.deadline_s:
            raise DeadlineExceededError(
                f"deadline: passed with {len(self.results)} of {len(self.features)} windows done"
            )

    def result(self) -> list[Outputs]:
        """Return what run returns, once is_done; raises the engine's error."""
        if self.error is not None:
            # An exception of its own for each thread: raising one adds to its traceback.
            cls = type(self.error) if isinstance(self.error, BertRtError) else EngineInternalError
            raise cls(str(self.error) or type(self.error).__name__) from self.error
        return [self.results[index] for index in range(len(self.features))]


_Batch = list[tuple[Request, int]]


def _split(outputs: Outputs, kinds: Mapping[str, str], batch: PackedBatch) -> list[Outputs]:
    """Cut a batch's outputs into those of its sequences (views, not copies)."""
    bounds = batch.cu_seqlens.tolist()
    columns = [
        [array[start:end] for start, end in pairwise(bounds)]
        if kinds[name] == PER_TOKEN
        else [*array]
        for name, array in outputs.items()
    ]
    return [dict(zip(outputs, arrays, strict=True)) for arrays in zip(*columns, strict=True)]


_SCHEDULERS: weakref.WeakSet[Scheduler] = weakref.WeakSet()


def _reset_all() -> None:
    for scheduler in _SCHEDULERS:
        scheduler._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
