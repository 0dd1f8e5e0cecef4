"""Threads over a queue: who computes the next batch, and who waits for it.

Two kinds of callers share one queue (bert_rt.scheduling.queue) and one engine:

- Those that wait in a thread of their own. Whoever finds the engine free becomes the leader and
  runs batches until its own windows are done, then hands over; the others sleep until theirs are.
- Those that must not wait, such as event loops: one thread drives the requests of all of them
  (bert_rt.tasks.driver), and is a leader, too, while it runs a batch.

An engine that writes takes steps (bert_rt.engines.base.Run): between them requests join and leave,
and whoever leads may hand over.

Where an event loop wants the same cores, the engine runs in a thread of its own that gives way to
it (engine_nice).

An idle scheduler adds no latency, and there is nothing to stop at exit. Batches of different
schedulers of a process share its cores by bert_rt.scheduling.arbiter.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from bert_rt.engines.base import Engine, Run, begin_run
from bert_rt.engines.packing import pack
from bert_rt.errors import EngineUnavailableError
from bert_rt.scheduling.arbiter import ARBITER
from bert_rt.scheduling.batches import Batch, QueueStats
from bert_rt.scheduling.queue import Queue
from bert_rt.scheduling.requests import Asked, Request, RequestCancelledError
from bert_rt.support.background import LowPriorityThread
from bert_rt.types import PER_TOKEN, Outputs, PackedBatch, TokenSequence

__all__ = ["Asked", "QueueStats", "Request", "RequestCancelledError", "Scheduler"]

_CLOSED = "engine: is closed, want an open Runtime"


class Scheduler:
    """Runs the windows of concurrent requests on one engine. Thread-safe and fork-safe."""

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        max_batch_ms: float | None = None,
        engine_nice: int = 0,
    ) -> None:
        """Take over an engine.

        Args:
            engine: Called by one thread at a time.
            max_batch_tokens: Most tokens of a batch, padding counted where the engine pads.
            max_queue_tokens: Most tokens of unfinished requests together; a single request may
                have more while there is no other.
            max_batch_ms: Most milliseconds that a batch should take, by what was measured; None
                for no other limit than max_batch_tokens.
            engine_nice: 0 for the engine to run in the thread that leads; else it has a thread of
                its own, whose nice value is so much higher.
        """
        self._engine = engine
        self._kinds = engine.outputs
        self._max_batch_tokens = max_batch_tokens
        self._max_queue_tokens = max_queue_tokens
        self._max_batch_ms = max_batch_ms
        self._engine_nice = engine_nice
        info = engine.info
        # A device beside the CPU leaves its cores to others.
        self._num_threads = info.num_threads if info.device.lower() == "cpu" else 1
        self._is_closed = False
        self._reset()
        _SCHEDULERS.add(self)

    def _reset(self) -> None:
        # In a forked process the threads that held the lock or waited are gone.
        lock = threading.Lock()
        self._condition = threading.Condition(lock)  # a batch is done
        self._driver_condition = threading.Condition(lock)  # or there is something to tokenize
        self._queue = Queue(
            max_batch_tokens=self._max_batch_tokens,
            max_queue_tokens=self._max_queue_tokens,
            is_packed=self._engine.info.is_packed,
            max_batch_s=None if self._max_batch_ms is None else self._max_batch_ms / 1000,
        )
        nice = self._engine_nice
        self._engine_thread = LowPriorityThread(nice) if nice else None
        self._run: Run | None = None  # of the batch that runs, where the engine takes steps
        self._is_led = False
        self._has_news = False  # for take_deferred

    @property
    def stats(self) -> QueueStats:
        """Read how much waits at this moment, and what was done."""
        with self._condition:
            return self._queue.stats(time.monotonic())

    def run(
        self,
        features: Sequence[TokenSequence],
        asked: Asked | None = None,
        *,
        request: Request | None = None,
    ) -> list[Outputs]:
        """Compute the outputs of some windows, together with those of other threads.

        Args:
            features: Windows, none longer than max_batch_tokens.
            asked: Deadline, priority and so on; deadlines in seconds of time.monotonic. A batch
                that runs is waited for by the thread that runs it.
            request: What admit returned for these windows; None to be admitted now.

        Returns:
            For every window its outputs by name: of shape (T, ...) per token, else (...).

        Raises:
            OverloadedError: Too much is waiting already; nothing was computed.
            DeadlineExceededError: The deadline has passed, or would.
            RequestCancelledError: The request was cancelled.
            EngineInternalError: The engine failed on one of these windows.
            EngineUnavailableError: The scheduler is closed or being drained.
        """
        if request is None:
            request = self.admit(sum(feature.num_tokens for feature in features), asked)
        try:
            self.fill(request, features)
            while not request.is_done:
                self._lead_or_wait(request)
        finally:
            self.drop(request)
        return request.result()

    def admit(
        self,
        num_tokens: int,
        asked: Asked | None = None,
        *,
        is_deferred: bool = False,
        on_done: Callable[[Request], None] | None = None,
    ) -> Request:
        """Admit a request before its windows are known, or refuse it.

        Args:
            num_tokens: An estimate.
            asked: As in run.
            is_deferred: Whether take_deferred is to give it out when it comes near its turn;
                otherwise the caller makes its windows now.
            on_done: Called when it is done, by whichever thread; must not wait for anything.

        Returns:
            The request. Whoever admits it must fill or drop it.

        Raises:
            OverloadedError: Too much is waiting already.
            EngineUnavailableError: The scheduler is being drained.
        """
        with self._condition:
            request = self._queue.submit(
                num_tokens, time.monotonic(), asked, is_deferred=is_deferred, on_done=on_done
            )
            if is_deferred:
                self._has_news = True
                self._driver_condition.notify_all()
        return request

    def fill(self, request: Request, features: Sequence[TokenSequence]) -> None:
        """Hand in the windows of a request.

        Args:
            request: What admit returned.
            features: As in run.

        Raises:
            InputTooLongError: A window is longer than max_batch_tokens.
        """
        with self._condition:
            self._queue.fill(request, features)

    def take_deferred(self) -> list[Request]:
        """Return the deferred requests whose windows are to be made now."""
        with self._condition:
            self._has_news = False
            return self._queue.take_deferred(time.monotonic())

    def drop(self, request: Request, error: BaseException | None = None) -> None:
        """Take a request out of the queue; harmless where it is done.

        Args:
            request: The request.
            error: Why; None where its caller does not want it any more.
        """
        with self._condition:
            self._queue.cancel(request, error)

    def drive(self, has_done: Callable[[], bool]) -> None:
        """Run one batch of what waits, or wait until the batch of another thread is done.

        It does nothing where nothing waits, and waits no longer when a deferred request comes.
        Errors of the engine are the requests' own.

        Args:
            has_done: Whether requests of the caller are done, which it should see to first.

        Raises:
            EngineUnavailableError: The scheduler is closed.
        """
        with self._condition:
            if self._is_closed:
                raise EngineUnavailableError(_CLOSED)
            if has_done():
                return
            if self._is_led:
                if not self._has_news:
                    self._driver_condition.wait()
                return
            self._is_led = True
        try:
            self._run_batch()
        finally:
            self._stop_leading()

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuse new requests from now on and wait for those that were admitted.

        Args:
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            Whether all are done.
        """
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._condition:
            self._queue.drain()
            while not self._queue.is_empty:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    return False
                # A request that fails while it is tokenized wakes nobody, so look now and then.
                self._condition.wait(min(left_s, 0.1))
        return True

    def close(self) -> None:
        """Close the engine once the batch that runs is done; waiting requests fail."""
        with self._condition:
            self._condition.wait_for(lambda: not self._is_led)
            self._is_closed = True
            self._run = None
            self._engine.close()
            if self._engine_thread is not None:
                self._engine_thread.close()
            self._queue.fail_all(EngineUnavailableError(_CLOSED))
            self._wake()

    def _lead_or_wait(self, request: Request) -> None:
        """Run batches until the request is done, or wait for whoever does."""
        leads = False
        try:
            with self._condition:
                now = time.monotonic()
                if self._is_closed:
                    raise EngineUnavailableError(_CLOSED)
                self._queue.check(request, now)
                if request.is_done:
                    return
                if self._is_led:
                    # Woken after every batch, so a cancellation is seen soon enough.
                    left_s = request.asked.deadline_s - now
                    self._condition.wait(None if math.isinf(left_s) else left_s)
                    return
                leads = self._is_led = True
            while self._is_wanted(request):
                self._run_batch()
        finally:
            if leads:
                self._stop_leading()

    def _is_wanted(self, request: Request) -> bool:
        with self._condition:
            self._queue.check(request, time.monotonic())
        return not request.is_done

    def _stop_leading(self) -> None:
        with self._condition:
            self._is_led = False
            self._wake()

    def _wake(self) -> None:
        self._condition.notify_all()
        self._driver_condition.notify_all()

    def _run_batch(self) -> None:
        """Run the next batch, or a step of it, and give every request its part, or its error."""
        since = time.monotonic()
        # Planned when the cores are there, so that whoever has come meanwhile is in it.
        with ARBITER.hold(self._num_threads):
            batch: Batch | None = None
            try:
                with self._condition:
                    batch = self._queue.running
                    batch = batch or self._queue.next_batch(time.monotonic(), since=since)
                if batch is None:
                    return
                thread = self._engine_thread
                outputs = thread.call(self._compute, batch) if thread else self._compute(batch)
            except BaseException as error:
                self._run = None
                self._take_back(batch, error)
                return
            with self._condition:
                if outputs or not batch.windows:
                    self._queue.complete(batch, outputs, time.monotonic())
                    self._wake()
                if not batch.windows:
                    self._run = None

    def _compute(self, batch: Batch) -> Mapping[int, Outputs]:
        """Compute a batch, or a step of it where the engine takes such; what is done by number."""
        if self._run is not None:
            with self._condition:
                now = time.monotonic()
                gone = self._queue.leave(batch, now)
                more = self._queue.join(batch, now, self._run.num_free)
            self._run.leave(gone)
            self._run.join(more)
            return self._run.step()
        self._run = begin_run(self._engine)
        if self._run is not None:
            self._run.join(batch.sequences)
            return self._run.step()
        packed = pack(batch.sequences, max_tokens=self._max_batch_tokens, is_all_read=False)
        parts = _split(self._engine.run(packed), self._kinds, packed)
        return dict(zip(batch.windows, parts, strict=True))

    def _take_back(self, batch: Batch | None, error: BaseException) -> None:
        """Give a batch that was not computed back to the queue."""
        if batch is None:
            raise error
        with self._condition:
            if isinstance(error, Exception):  # Whatever it is, waiting threads must learn of it.
                self._queue.fail(batch, error)
                self._wake()
                return
            # Ctrl-C hit the leader; the others' windows are still wanted.
            self._queue.put_back(batch)
        raise error


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
