"""Something is computed in another thread than its caller's."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

__all__ = ["Background", "LowPriorityThread"]

T = TypeVar("T")

_LEAST_PRIORITY = 19


class Background(Generic[T]):
    """Runs a function in a thread of its own, from now on."""

    def __init__(self, function: Callable[[], T]) -> None:
        """Start it.

        Args:
            function: What to run; what it raises is raised by result.
        """
        self._function = function
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._function())
        except BaseException as error:  # the caller's to handle, whatever it is
            self._error = error

    def wait(self) -> None:
        """Wait for its end and raise nothing."""
        self._thread.join()

    def result(self) -> T:
        """Wait for its end.

        Returns:
            What the function returned.

        Raises:
            BaseException: What the function raised.
        """
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]


class LowPriorityThread:
    """One thread that gives way to others of the process, for one call after another.

    Threads that the calls start, such as an engine's pool, have its priority. Only Linux has
    priorities of threads; elsewhere it is a thread like any other.
    """

    def __init__(self, nice: int) -> None:
        """Start no thread yet.

        Args:
            nice: What is added to the caller's nice value, as by nice(1); at least 0.
        """
        self._executor = ThreadPoolExecutor(
            1, "bert-rt-engine", initializer=_lower_priority, initargs=(nice,)
        )

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the thread and wait for its end, also where Ctrl-C ends the waiting.

        Args:
            function: What to call.
            *args: Its arguments.

        Returns:
            What it returned.

        Raises:
            BaseException: What it raised, or KeyboardInterrupt.
        """
        outcome: Future[T] = Future()
        try:
            self._executor.submit(_run, outcome, function, args)
            return outcome.result()
        except BaseException:
            # What has not begun never will, and whoever comes next must find nothing that runs.
            while not (outcome.cancel() or outcome.done()):
                with contextlib.suppress(KeyboardInterrupt):
                    wait([outcome])
            raise
        finally:
            del outcome  # else an error, by its traceback, and this would hold each other

    def close(self) -> None:
        """Let the thread end. Harmless when called twice."""
        self._executor.shutdown(wait=False)


def _run(outcome: Future[T], function: Callable[..., T], args: tuple[Any, ...]) -> None:
    if outcome.set_running_or_notify_cancel():
        try:
            outcome.set_result(function(*args))
        except BaseException as error:  # the caller's to handle, whatever it is
            outcome.set_exception(error)


def _lower_priority(nice: int) -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        lowered = min(_LEAST_PRIORITY, os.getpriority(os.PRIO_PROCESS, thread) + nice)
        with contextlib.suppress(OSError):  # A sandbox may forbid it; answers do not depend on it.
            os.setpriority(os.PRIO_PROCESS, thread, lowered)
