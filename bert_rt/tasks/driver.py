"""Requests that nobody waits for in a thread: one thread of its own computes them all.

Event loops, and servers, submit inputs and get futures. While there is work, one thread takes what
has arrived, tokenizes it together, runs a batch, decodes what is done and looks again; so requests
that arrive meanwhile are in the next batch. It ends when there is no work left, and callers of the
synchronous methods share the engine with it (bert_rt.engines.scheduler).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bert_rt.engines.scheduler import Request, RequestCancelledError, Scheduler
from bert_rt.errors import BertRtError
from bert_rt.tasks.base import CallOptions, Prepared, Task

if TYPE_CHECKING:
    from bert_rt.tasks.session import Session

__all__ = ["Driver"]

# Inputs that are tokenized before the next batch runs: enough for one, and no long wait for it.
_TAKEN_ITEMS = 64
_TAKEN_CHARS = 2**17


@dataclass(slots=True, eq=False)
class _Submitted:
    """An input on its way; also what tells the scheduler that it was cancelled."""

    task: Task[Any, Any, Any]
    item: Any
    options: CallOptions
    future: Future[Any]
    num_chars: int
    num_reserved: int
    prepared: Prepared | None = None
    request: Request | None = None

    def is_set(self) -> bool:
        """Whether the caller has cancelled."""
        cancelled = self.options.cancelled
        return self.future.cancelled() or (cancelled is not None and cancelled.is_set())


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
        self._arrived: deque[_Submitted] = deque()
        self._is_driving = False
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, task: Task[Any, Any, Any], item: Any, options: CallOptions) -> Future[Any]:
        """Hand over one checked input.

        Args:
            task: What it is for.
            item: What task.check_input returned.
            options: What is asked of it.

        Returns:
            A future of the result; cancelling it drops the request.

        Raises:
            OverloadedError: Too much is waiting already.
        """
        num_chars = task.num_chars(item)
        num_reserved = self._scheduler.reserve(task.estimate_tokens(item))
        submitted = _Submitted(task, item, options, Future(), num_chars, num_reserved)
        with self._lock:
            self._arrived.append(submitted)
            if not self._is_driving:
                # Kept for the next time; the executor's own exit handler ends its thread.
                self._executor = self._executor or ThreadPoolExecutor(1, "bert-rt-driver")
                self._executor.submit(self._drive)
                self._is_driving = True
        return submitted.future

    def close(self) -> None:
        """Let the thread end once its work is done, or has failed. Harmless when called twice."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _drive(self) -> None:
        """Run until nothing is left. Whatever happens, every caller gets a result or an error."""
        open_requests: list[_Submitted] = []
        while True:
            with self._lock:
                taken = self._take()
                if not taken and not open_requests:
                    self._is_driving = False
                    return
            try:
                open_requests += self._start(taken)
                open_requests = [item for item in open_requests if not self._finish(item)]
                if open_requests:
                    self._scheduler.drive()
                    open_requests = [item for item in open_requests if not self._finish(item)]
            except BaseException as error:
                for item in (*open_requests, *taken):
                    self._fail(item, error)
                open_requests = []

    def _take(self) -> list[_Submitted]:
        taken: list[_Submitted] = []
        num_chars = 0
        while self._arrived and len(taken) < _TAKEN_ITEMS and num_chars < _TAKEN_CHARS:
            item = self._arrived.popleft()
            num_chars += item.num_chars
            taken.append(item)
        return taken

    def _start(self, taken: Sequence[_Submitted]) -> list[_Submitted]:
        """Tokenize inputs together and put them into the queue; return those that are in it."""
        started = []
        for _, group in groupby(taken, key=lambda item: (id(item.task), item.options.limits)):
            for item in self._prepare([item for item in group if self._is_wanted(item)]):
                assert item.prepared is not None
                item.request = self._scheduler.submit(
                    item.prepared.sequences,
                    deadline_s=item.options.deadline_s,
                    cancelled=item,
                    num_reserved=item.num_reserved,
                )
                started.append(item)
        return started

    def _prepare(self, group: Sequence[_Submitted]) -> Iterator[_Submitted]:
        """Make inputs ready; one that cannot be fails alone, and the rest goes on behind it."""
        while group:
            first = group[0]
            items = [item.item for item in group]
            count = 0
            try:
                for prepared in first.task.prepare(items, self._session, first.options):
                    group[count].prepared = prepared
                    yield group[count]
                    count += 1
            except Exception as error:  # Whatever it is, it is this input's.
                self._fail(group[count], error)
                count += 1
            group = group[count:]

    def _is_wanted(self, item: _Submitted) -> bool:
        if not item.is_set():
            return True
        self._fail(item, RequestCancelledError())
        return False

    def _finish(self, item: _Submitted) -> bool:
        """Whether an input is done, one way or the other; its caller learns of it."""
        request = item.request
        assert request is not None and item.prepared is not None
        try:
            if not request.is_done:
                request.check_wanted()
                return False
            result = item.task.decode(item.prepared, request.result(), item.options)
        except Exception as error:
            self._fail(item, error)
            return True
        self._scheduler.drop(request)
        if item.future.set_running_or_notify_cancel():
            item.future.set_result(result)
        return True

    def _fail(self, item: _Submitted, error: BaseException) -> None:
        if item.request is not None:
            self._scheduler.drop(item.request)
        elif item.num_reserved:
            self._scheduler.release(item.num_reserved)
            item.num_reserved = 0
        if item.future.done():
            return
        if isinstance(error, RequestCancelledError):
            item.future.cancel()
            item.future.set_running_or_notify_cancel()
        elif item.future.set_running_or_notify_cancel():
            item.future.set_exception(_copy_of(error))


def _copy_of(error: BaseException) -> BaseException:
    """Return an error of its own for one caller: raising one adds to its traceback."""
    if isinstance(error, BertRtError):
        copy = type(error)(str(error))
        copy.__cause__ = error
        return copy
    return error
