"""What becomes of engines in a forked process.

A fork copies an engine's memory but not its threads, and locks that they held stay locked. Three
kinds of engines come out of that differently, as their SPEC says:

- "survives" (native): it makes new threads by itself; its weights are the parent's memory.
- "reopens" (onnxruntime): it is opened anew when the child first needs it.
- "refused" (openvino, torch): its thread pools (TBB, OpenMP) are shared by all of a process and
  cannot be made anew: whatever the child computes may wait for ever. So it is refused, also where
  the child opens one of its own, once the parent has used the library (`note_use`, `lost_in_fork`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from bert_rt.engines.base import Engine, EngineInfo, KeepingEngine, Run, begin_run, keeping
from bert_rt.engines.registry import engine_names, engine_spec
from bert_rt.errors import EngineUnavailableError
from bert_rt.support.shutdown import native_call
from bert_rt.types import FloatArray, IntArray, Outputs, PackedBatch, TokenSequence

__all__ = ["ForkSafeEngine", "lost_in_fork", "note_use"]

# Library to the process that first used it.
_USED_BY: dict[str, int] = {}


def note_use(library: str) -> None:
    """Remember that this process uses a library that cannot be used in its forked children.

    Args:
        library: The engine's name.
    """
    _USED_BY.setdefault(library, os.getpid())


def lost_in_fork(library: str) -> str | None:
    """Say why a library cannot be used in this process.

    Args:
        library: The engine's name.

    Returns:
        None where it can, else one sentence.
    """
    if _USED_BY.get(library, os.getpid()) == os.getpid():
        return None
    return (
        "this process was forked from one that had used the library, whose threads are not here; "
        "start it with the method 'spawn' or 'forkserver' of multiprocessing, or load the first "
        "Runtime after the fork."
    )


class ForkSafeEngine:
    """Hands everything to an engine, and in a forked process to a new one."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        """Open the engine.

        Args:
            open_engine: Opens an engine; called again in a forked process.
        """
        self._open_engine = open_engine
        with native_call():
            self._engine = open_engine()
        self._pid = os.getpid()
        _ENGINES.add(self)

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        return self._engine.info

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return self._engine.outputs

    def run(self, batch: PackedBatch) -> Outputs:
        """Compute the outputs of every token (or sequence) of the batch.

        Args:
            batch: Sequences without padding.

        Returns:
            What the engine returns.

        Raises:
            EngineInternalError: The library underneath failed.
            EngineUnavailableError: This process was forked and the engine cannot be used in it.
        """
        engine = self._here()
        with native_call():
            return engine.run(batch)

    def begin(self) -> Run | None:
        """Begin a run where the engine has such; a forked process must not go on with it.

        Returns:
            The run, or None.

        Raises:
            EngineUnavailableError: As in run.
        """
        run = begin_run(self._here())
        return None if run is None else _HeldRun(run)

    # What an engine that keeps passages has beside; arguments and errors as in KeepingEngine.

    def prepare(self, passages: Sequence[IntArray]) -> None:
        """Compute passages ahead, and keep them as far as there is room."""
        with self._keeping() as engine:
            engine.prepare(passages)

    def prepared_states(self, passages: Sequence[IntArray]) -> FloatArray:
        """Do the same, and return it."""
        with self._keeping() as engine:
            return engine.prepared_states(passages)

    def keep(self, passages: Sequence[IntArray], states: FloatArray) -> None:
        """Keep what prepared_states returned."""
        with self._keeping() as engine:
            engine.keep(passages, states)

    def context_bytes(self, num_tokens: int) -> int:
        """Return what a window takes of the cache."""
        with self._keeping() as engine:
            return engine.context_bytes(num_tokens)

    def context_cache(self) -> Mapping[str, int]:
        """Return what the cache holds and was asked for."""
        with self._keeping() as engine:
            return engine.context_cache()

    def forget(self) -> None:
        """Empty the cache."""
        with self._keeping() as engine:
            engine.forget()

    def close(self) -> None:
        """Free what the engine holds. Calling it twice is harmless."""
        if os.getpid() == self._pid:
            with native_call():
                self._engine.close()

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[KeepingEngine]:
        engine = keeping(self._here())
        with native_call():
            yield engine

    def _here(self) -> Engine:
        """Return the engine of this process."""
        if os.getpid() != self._pid:
            self._renew()
        return self._engine

    def _renew(self) -> None:
        name = self._engine.info.name
        reason = lost_in_fork(name)
        if reason is not None:
            raise EngineUnavailableError(f"engine: {name!r} cannot run here: {reason}")
        if not _survives(name):
            with native_call():
                self._engine = self._open_engine()
        self._pid = os.getpid()


class _HeldRun:
    """Hands everything to a run; the end of the interpreter waits for its steps."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def num_free(self) -> int:
        return self._run.num_free

    def join(self, sequences: Sequence[TokenSequence]) -> None:
        self._run.join(sequences)

    def leave(self, numbers: Collection[int]) -> None:
        self._run.leave(numbers)

    def step(self) -> Mapping[int, Outputs]:
        with native_call():
            return self._run.step()


_ENGINES: weakref.WeakSet[ForkSafeEngine] = weakref.WeakSet()


def _survives(name: str) -> bool:
    return name in engine_names() and engine_spec(name).fork == "survives"


def _keep_all() -> None:
    # Never freed in a child: a destructor would wait for threads that only the parent has.
    for engine in list(_ENGINES):
        if not _survives(engine._engine.info.name):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine._engine))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_all)
