"""One arbiter of a process's cores, for all models that it holds.

Every engine has its own threads. Two of them that compute at a time want more cores than there are
and slow each other down; one after the other, both are done sooner on average. So a batch asks
for as many cores as its engine has threads and waits until they are free, first come, first
served. Engines with few threads each run side by side while their threads together have cores.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bert_rt.engines.threads import cpu_budget

__all__ = ["ARBITER", "Arbiter"]


@dataclass(slots=True, eq=False)
class _Turn:
    num_cores: int
    is_granted: bool = False


class Arbiter:
    """Lends cores, in the order in which they are asked for. Thread-safe."""

    def __init__(self, num_cores: int | None = None) -> None:
        """Own some cores.

        Args:
            num_cores: How many; None for those that this process may use.
        """
        self._given = num_cores
        self.reset()

    def reset(self) -> None:
        """Forget who computes and who waits: in a forked process they are gone."""
        self._condition = threading.Condition()
        self._turns: deque[_Turn] = deque()
        # More engine threads than cores are a caller's choice, and take all of them.
        self._num_cores = self._given or cpu_budget().num_threads
        self._num_free = self._num_cores

    @contextmanager
    def hold(self, num_threads: int) -> Iterator[None]:
        """Wait for cores and hold them while the context is open.

        Args:
            num_threads: Threads that will compute; all cores are held where there are fewer.

        Yields:
            None, once the cores are free.
        """
        turn = _Turn(min(num_threads, self._num_cores))
        condition = self._condition
        try:
            with condition:
                self._turns.append(turn)
                self._grant()
                while not turn.is_granted:
                    condition.wait()
            yield
        finally:
            with condition:
                if turn.is_granted:
                    self._num_free += turn.num_cores
                elif turn in self._turns:  # Interrupted while it waited.
                    self._turns.remove(turn)
                self._grant()

    def _grant(self) -> None:
        is_any = False
        # Nobody overtakes: a wide engine would wait for ever behind narrow ones.
        while self._turns and self._turns[0].num_cores <= self._num_free:
            turn = self._turns.popleft()
            self._num_free -= turn.num_cores
            turn.is_granted = is_any = True
        if is_any:
            self._condition.notify_all()


ARBITER = Arbiter()
"""The arbiter of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ARBITER.reset)
