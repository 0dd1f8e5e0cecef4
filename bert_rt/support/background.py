"""Something is computed in a thread while its caller does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Background"]

T = TypeVar("T")


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
