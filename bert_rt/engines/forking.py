"""An engine that goes on answering in a forked process.

A fork copies an engine's memory but not its threads, so the child's copy may wait for ever for a
thread that is not there. The child therefore opens an engine of its own when it first needs one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping

from bert_rt.engines.base import Engine, EngineInfo
from bert_rt.errors import EngineUnavailableError
from bert_rt.types import Outputs, PackedBatch

__all__ = ["ForkSafeEngine"]

# Makes new threads by itself and shares its weights with the parent's memory.
_SURVIVES = ("native",)
# Its OpenMP runtime, which the whole process shares, does not work after a fork.
_CANNOT = ("torch",)


class ForkSafeEngine:
    """Hands everything to an engine, and in a forked process to a new one."""

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        """Open the engine.

        Args:
            open_engine: Opens an engine; called again in a forked process.
        """
        self._open_engine = open_engine
        self._engine = open_engine()
        self._pid = os.getpid()

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
        if os.getpid() != self._pid:
            self._renew()
        return self._engine.run(batch)

    def close(self) -> None:
        """Free what the engine holds. Calling it twice is harmless."""
        if os.getpid() == self._pid:
            self._engine.close()

    def _renew(self) -> None:
        name = self._engine.info.name
        if name in _CANNOT:
            raise EngineUnavailableError(
                f"engine: {name!r} was opened before this process was forked and cannot be used "
                "in it; load a Runtime after the fork"
            )
        if name not in _SURVIVES:
            # Never freed: its destructor would wait for threads that only the parent has.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
            self._engine = self._open_engine()
        self._pid = os.getpid()
