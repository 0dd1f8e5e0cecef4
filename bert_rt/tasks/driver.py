"""Requests that nobody waits for in a thread: one thread of its own computes them all.

Event loops, and servers, submit inputs and get futures. An input is admitted to the queue at once,
by its characters, and ranked there. While there is work, one thread tokenizes what comes next,
runs a batch, decodes what is done and looks again; so an input that arrives meanwhile may be in the
next batch, and what is never computed is never tokenized. The thread ends when there is no
work left, and callers of the synchronous methods share the engine with it
(bert_rt.scheduling.scheduler).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bert_rt.scheduling.scheduler import Request, RequestCancelledError, Scheduler
from bert_rt.tasks.base import CallOptions, Prepared, Task

if TYPE_CHECKING:
    from bert_rt.tasks.session import Session

__all__ = ["Driver"]


@dataclass(slots=True, eq=False)
class _Submitted:
    """An input on its way."""

    task: Task[Any, Any, Any]
    item: Any
    options: CallOptions
    future: Future[Any]
    prepared: Prepared | None = None


class Driver:
    """Computes submitted inputs on a session. Thread-safe; a forked process starts it anew."""

    def __init__(self, session: Session, scheduler: Scheduler) -> None:
        """Take the two halves of the path; no thread is started yet.

        Args:
            session: Tokenizes.
            scheduler: Computes.
        """
        self._session = session
        self._scheduler = scheduler
        self.reset()

    def reset(self) -> None:
        """Forget everything: in a forked process the thread and the callers are gone."""
        self._lock = threading.Lock()
        self._open: dict[Request, _Submitted] = {}
        self._done: deque[Request] = deque()
        self._is_driving = False
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, task: Task[Any, Any, Any], item: Any, options: CallOptions) -> Future[Any]:
        """Hand over one checked input.

        Args:
            task: What it is for.
            item: What task.check_input returned.
            options: What is asked of it.

        Returns:
            A future of the result; cancelling it drops the request at once.

        Raises:
            OverloadedError: Too much is waiting already, or the deadline is too near for it.
            EngineUnavailableError: The session is being drained.
        """
        submitted = _Submitted(task, item, options, Future())
        with self._lock:
            # Both under the lock: a request that the thread may see is one that it knows.
            request = self._scheduler.admit(
                task.estimate_tokens(item),
                options.asked,
                is_deferred=True,
                on_done=self._done.append,
            )
            self._open[request] = submitted
            if not self._is_driving:
                # Kept for the next time; the executor's own exit handler ends its thread.
                self._executor = self._executor or ThreadPoolExecutor(1, "bert-rt-driver")
                self._executor.submit(self._drive)
                self._is_driving = True

        def drop(future: Future[Any]) -> None:
            if future.cancelled():
                self._scheduler.drop(request)

        submitted.future.add_done_callback(drop)
        return submitted.future

    def close(self) -> None:
        """Let the thread end once its work is done, or has failed. Harmless when called twice."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _drive(self) -> None:
        """Run until nothing is left. Whatever happens, every caller gets a result or an error."""
        while True:
            self._finish_done()
            with self._lock:
                if not self._open:
                    self._is_driving = False
                    return
            try:
                self._prepare(self._scheduler.take_deferred())
                self._scheduler.drive(lambda: bool(self._done))
            except BaseException as error:
                with self._lock:
                    left = list(self._open)
                for request in left:
                    self._scheduler.drop(request, error)

    def _prepare(self, requests: Sequence[Request]) -> None:
        """Tokenize inputs together, where they are of one kind, and hand their windows in."""
        with self._lock:
            taken = [(request, self._open[request]) for request in requests]
        for _, group in groupby(taken, key=lambda pair: (id(pair[1].task), pair[1].options.limits)):
            self._prepare_group(list(group))

    def _prepare_group(self, group: Sequence[tuple[Request, _Submitted]]) -> None:
        """Make inputs ready; one that cannot be fails alone, and the rest goes on behind it."""
        while group:
            first = group[0][1]
            count = 0
            try:
                items = [submitted.item for _, submitted in group]
                for prepared in first.task.prepare(items, self._session, first.options):
                    request, submitted = group[count]
                    submitted.prepared = prepared
                    self._scheduler.fill(request, prepared.sequences)
                    count += 1
            except Exception as error:  # Whatever it is, it is this input's.
                self._scheduler.drop(group[count][0], error)
                count += 1
            group = group[count:]

    def _finish_done(self) -> None:
        """Tell the callers of requests that are done, one way or the other."""
        while self._done:
            request = self._done.popleft()
            with self._lock:
                submitted = self._open.pop(request)
            try:
                outputs = request.result()
                assert submitted.prepared is not None
                result = submitted.task.decode(submitted.prepared, outputs, submitted.options)
            except RequestCancelledError:
                submitted.future.cancel()
                submitted.future.set_running_or_notify_cancel()
            except BaseException as error:
                if submitted.future.set_running_or_notify_cancel():
                    submitted.future.set_exception(error)
            else:
                if submitted.future.set_running_or_notify_cancel():
                    submitted.future.set_result(result)
