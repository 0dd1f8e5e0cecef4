"""Micro-batches one ahead: the next one is made while the model computes on this one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from train.loop.objective import MicroBatch, Objective

__all__ = ["Feeder"]


class Feeder:
    """Hands out micro-batches by their index; a context manager, for it holds a thread."""

    def __init__(self, objective: Objective) -> None:
        """Start the thread that makes micro-batches; the objective is only called there."""
        self._objective = objective
        self._thread = ThreadPoolExecutor(1, "micro-batches")
        self._ahead: tuple[int, Future[MicroBatch]] | None = None

    def take(self, index: int, following: int) -> MicroBatch:
        """Return a micro-batch.

        Args:
            index: Which one.
            following: Which one will be asked for next.

        Returns:
            The micro-batch.
        """
        if self._ahead is None or self._ahead[0] != index:
            self._ahead = (index, self._submit(index))
        future = self._ahead[1]
        self._ahead = (following, self._submit(following))
        return future.result()

    def __enter__(self) -> Self:
        """Return the feeder itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _submit(self, index: int) -> Future[MicroBatch]:
        return self._thread.submit(self._objective.micro_batch, index)
