"""An engine that says what it is doing: for servers, which measure batches and notice a hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bert_rt.engines.base import Engine, EngineInfo
from bert_rt.types import Outputs, PackedBatch

__all__ = ["BatchRun", "WatchedEngine"]


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One batch that an engine has run.

    Attributes:
        num_tokens: Tokens of the batch.
        num_sequences: Sequences of the batch.
        duration_s: Seconds that the engine took.
    """

    num_tokens: int
    num_sequences: int
    duration_s: float


class WatchedEngine:
    """Hands everything to an engine and remembers when it began and ended.

    Attributes:
        listeners: Called after every batch that ended well, in the thread that ran it. They must
            not raise.
        last: The last batch that ended well; None before the first.
    """

    def __init__(self, engine: Engine) -> None:
        """Watch an open engine.

        Args:
            engine: Any engine.
        """
        self._engine = engine
        self._began_s: float | None = None
        self.listeners: list[Callable[[BatchRun], None]] = []
        self.last: BatchRun | None = None

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of the engine."""
        return self._engine.info

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return self._engine.outputs

    @property
    def running_s(self) -> float:
        """Seconds since the batch that runs began; 0 where none runs."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def run(self, batch: PackedBatch) -> Outputs:
        """Run a batch and tell the listeners.

        Args:
            batch: Sequences without padding.

        Returns:
            What the engine returns.

        Raises:
            EngineError: As the engine does.
        """
        began_s = self._began_s = time.monotonic()
        try:
            outputs = self._engine.run(batch)
        finally:
            self._began_s = None
        self.last = BatchRun(batch.num_tokens, batch.num_sequences, time.monotonic() - began_s)
        for listener in self.listeners:
            listener(self.last)
        return outputs

    def close(self) -> None:
        """Close the engine. Calling it twice is harmless."""
        self._engine.close()
