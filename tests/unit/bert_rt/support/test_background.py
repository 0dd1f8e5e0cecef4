"""Functions in threads of their own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from bert_rt.support.background import Background, LowPriorityThread


def test_it_runs_beside_its_caller_and_returns_its_result() -> None:
    go = threading.Event()

    def function() -> int:
        assert go.wait(60)
        return threading.get_ident()

    background = Background(function)
    go.set()
    assert background.result() == background.result() != threading.get_ident()


def test_its_error_is_raised_where_the_result_is_wanted() -> None:
    def function() -> None:
        raise KeyError("damaged")

    background = Background(function)
    background.wait()
    with pytest.raises(KeyError, match="damaged"):
        background.result()


def test_all_calls_are_in_one_thread() -> None:
    thread = LowPriorityThread(1)
    idents = {thread.call(threading.get_ident) for _ in range(3)}
    assert len(idents) == 1 and threading.get_ident() not in idents
    assert thread.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        thread.call(divmod, 7, 0)
    thread.close()
    thread.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux only")
def test_it_and_what_it_starts_have_a_low_priority() -> None:
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    ours = nice()
    for more in (0, 2, 19):
        thread = LowPriorityThread(more)
        started = thread.call(lambda: Background(nice).result())
        assert thread.call(nice) == started == min(19, ours + more)
        thread.close()
    assert nice() == ours


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    # A shell starts what it puts in the background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_what_runs() -> None:
    thread, has_ended = LowPriorityThread(0), threading.Event()

    def function() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        has_ended.set()

    thread.call(int)  # Ctrl-C while the thread is being started would hit the executor.
    with pytest.raises(KeyboardInterrupt):
        thread.call(function)
    assert has_ended.is_set() and thread.call(int) == 0
    thread.close()
