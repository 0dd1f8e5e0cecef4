"""SIGTERM and Ctrl-C end a run after its current step, with a checkpoint.

A scoring that they meet is given up: it may take longer than a machine that goes away waits.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch import nn

__all__ = ["refuse_passes", "stop_on_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn signals into an event while inside a with statement.

    A second signal of the kind does what it does without this: Ctrl-C twice ends a run at once.

    Yields:
        Set once a signal has come. Outside the main thread, where Python takes no signals, never.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def on_signal(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def refuse_passes(model: nn.Module, *, once: threading.Event) -> Iterator[None]:
    """Make a model's forward passes fail once an event is set, inside a with statement.

    Args:
        model: Its passes, and those of its parts that are called alone, are refused, with an
            InterruptedError.
        once: The event.
    """

    def refuse(*_: object) -> None:
        if once.is_set():
            raise InterruptedError("a signal has come")

    # A decoder is called alone, once a token.
    parts = (model, *model.children())
    handles = [part.register_forward_pre_hook(refuse) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
