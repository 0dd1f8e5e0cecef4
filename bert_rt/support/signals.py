"""SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, so that it cleans up.

Without this they end the process on the spot, and its temporary files stay.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["Terminated", "ending_signals"]

_NAMES = ("SIGTERM", "SIGHUP")  # Windows has the first only.


class Terminated(KeyboardInterrupt):
    """A signal that ends the process has come.

    Attributes:
        number: Which one.
    """

    def __init__(self, number: int) -> None:
        """Remember the signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Raise Terminated in the main thread where such a signal comes inside a with statement.

    Once one has come, others of its kind are ignored until the end: cleaning up takes moments.
    Signals that are ignored (nohup) or that somebody handles already stay as they are; so do all of
    them outside the main thread, where Python takes no signals.

    Yields:
        Nothing.
    """
    is_main = threading.current_thread() is threading.main_thread()
    numbers = [int(getattr(signal, name)) for name in _NAMES if is_main and hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]

    def end(number: int, _: object) -> NoReturn:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise Terminated(number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
