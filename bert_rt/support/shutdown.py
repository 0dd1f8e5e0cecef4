"""Native code and the end of the interpreter.

A thread that Python does not wait for (a daemon) may be inside a C++ or Rust library while the
interpreter ends. When the library then wants the interpreter's lock back, Python ends the thread in
the middle of the library's frames, which aborts the process. So whoever calls such a library does
it inside `native_call`: the interpreter's end waits for the calls that run, and later ones of other
threads than the ending one end their thread instead.

Since version 2.3 numpy's functions on sets (`np.unique`, `np.union1d` and their kind) are such C++
code. They are easily replaced, so the library does without them.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import AbstractContextManager

__all__ = ["native_call"]

# A call takes milliseconds, the loading of a model some seconds. One that hangs must not keep the
# process for ever.
_LONGEST_WAIT_S = 60.0


class _Gate:
    """Counts the threads inside native code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # cheaper to take than the condition around it
        self._condition = threading.Condition(self._lock)
        self._num_inside = 0
        self._ending_thread: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._ending_thread not in (None, threading.get_ident()):
                # Ends this thread and nothing else, without a word.
                raise SystemExit
            self._num_inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._ending_thread is not None:
                self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self._ending_thread = threading.get_ident()
            self._condition.wait_for(lambda: self._num_inside == 0, _LONGEST_WAIT_S)


_GATE = _Gate()


def native_call() -> AbstractContextManager[None]:
    """Return what holds back the end of the interpreter while native code runs.

    Returns:
        A context, which may be nested. Entering it raises SystemExit where the interpreter is
        ending and another thread than this one ends it.
    """
    return _GATE


def _renew_gate() -> None:
    # In a forked process the threads that were inside are gone.
    global _GATE
    _GATE = _Gate()


def _close_gate() -> None:
    _GATE.close()


# Run before the interpreter begins to end threads, and after those that it waits for have ended.
atexit.register(_close_gate)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_gate)
