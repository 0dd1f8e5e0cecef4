"""An engine that says what it is doing: for servers, which measure batches and notice a hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bert_rt.engines.base import Engine, EngineInfo, KeepingEngine, Run, begin_run, keeping
from bert_rt.types import Outputs, PackedBatch, TokenSequence

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
        with self._busy() as began_s:
            outputs = self._engine.run(batch)
        self._tell(BatchRun(batch.num_tokens, batch.num_sequences, time.monotonic() - began_s))
        return outputs

    def begin(self) -> Run | None:
        """Begin a run where the engine has such; what is done in it counts as a batch."""
        run = begin_run(self._engine)
        return None if run is None else _WatchedRun(run, self)

    @contextmanager
    def _busy(self) -> Iterator[float]:
        began_s = self._began_s = time.monotonic()
        try:
            yield began_s
        finally:
            self._began_s = None

    def _tell(self, batch: BatchRun) -> None:
        self.last = batch
        for listener in self.listeners:
            listener(batch)

    @property
    def keeping(self) -> KeepingEngine:
        """The engine as one that keeps passages; errors as in base.keeping."""
        return keeping(self._engine)

    def close(self) -> None:
        """Close the engine. Calling it twice is harmless."""
        self._engine.close()


class _WatchedRun:
    """Hands everything to a run, and measures its steps."""

    def __init__(self, run: Run, watched: WatchedEngine) -> None:
        self._run = run
        self._watched = watched
        self._lengths: list[int] = []
        self._duration_s = 0.0  # of steps since the last ones that were done

    @property
    def num_free(self) -> int:
        return self._run.num_free

    def join(self, sequences: Sequence[TokenSequence]) -> None:
        self._lengths += [sequence.num_tokens for sequence in sequences]
        self._run.join(sequences)

    def leave(self, numbers: Collection[int]) -> None:
        self._run.leave(numbers)

    def step(self) -> Mapping[int, Outputs]:
        with self._watched._busy() as began_s:
            done = self._run.step()
        self._duration_s += time.monotonic() - began_s
        if done:
            num_tokens = sum(self._lengths[number] for number in done)
            self._watched._tell(BatchRun(num_tokens, len(done), self._duration_s))
            self._duration_s = 0.0
        return done
