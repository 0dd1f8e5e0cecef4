"""Chunks computed on a cluster of Ray: an actor an engine. What a lost one had is repeated."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bert_rt.computing import Computed, compute
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.ray import open_runtime, put_artifact
from runtime.batch.chunks import Chunk

__all__ = ["Cluster", "Engines"]

# Chunks that wait for or are in an engine, of each: one is computed, the next is there already.
_CHUNKS_AN_ENGINE = 2
_LOCAL = "local"
# A cluster loses machines now and then. Where engines are lost and no chunk gets done in between,
# something else is wrong: a chunk that ends each of them, or an engine that cannot start.
_MAX_LOST = 5
# Chunks have at most 16 MB of rows. Left to itself, Ray takes 30 % of the machine's memory.
_OBJECT_STORE_BYTES = 2**29
_NOTICE_S = 60.0
_CONNECT_S = 10.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """What each actor opens.

    Attributes:
        artifact: The artifact's path; None for the embedded model.
        options: As in Runtime.load.
        asked: As in Runtime.options.
        num_threads: Cores of each.
        count: How many; None for as many as there is room for.
    """

    artifact: str | None
    options: Mapping[str, Any]
    asked: Mapping[str, Any]
    num_threads: int
    count: int | None


class _Worker:
    """An engine on some machine of the cluster."""

    def __init__(self, artifact: Any, engines: Engines) -> None:
        # In a list: Ray would fetch a reference that is an argument by itself, for every task.
        self._runtime = open_runtime(artifact[0], **engines.options)
        self._form = self._runtime.task.rows()
        self._options = self._runtime.options(**engines.asked)

    def compute(self, items: list[Any]) -> Computed:
        return compute(self._runtime, self._form, items, self._options)


class Cluster:
    """Computes chunks in order of their rows, many at a time."""

    def __init__(self, address: str, engines: Engines) -> None:
        """Connect and start the actors.

        Args:
            address: The cluster's; "local" starts one on this machine.
            engines: What the actors open.

        Raises:
            EngineUnavailableError: The cluster cannot be reached, or has no room for an engine.
        """
        import ray

        _connect(address)
        self._load: dict[Any, list[Any]] = {}
        self._num_lost = 0  # since a chunk was done
        try:
            self._count = _count(engines, ray.cluster_resources().get("CPU", 0))
            # Other machines may not have the path, and need not have the embedded model.
            artifact = engines.artifact if address == _LOCAL else put_artifact(engines.artifact)
            remote: Any = ray.remote(num_cpus=engines.num_threads)(_Worker)
            self._start: Callable[[], Any] = lambda: remote.remote([artifact], engines)
            for _ in range(self._count):
                self._load[self._start()] = []
        except BaseException:
            self.close()
            raise

    def __call__(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, Computed]]:
        """Compute chunks.

        Args:
            chunks: Read as they are needed.

        Yields:
            The chunks in order, with their results.

        Raises:
            BertRtError: An engine failed.
        """
        waiting: deque[list[Any]] = deque()
        for chunk in chunks:
            waiting.append([chunk, *self._submit(chunk)])
            if len(waiting) >= _CHUNKS_AN_ENGINE * len(self._load):
                yield self._take(waiting)
        while waiting:
            yield self._take(waiting)

    def _submit(self, chunk: Chunk) -> tuple[Any, Any]:
        """Give a chunk to the actor that has the least to do."""
        import ray

        for actor, references in self._load.items():
            if references:
                self._load[actor] = ray.wait(references, num_returns=len(references), timeout=0)[1]
        actor = min(self._load, key=lambda it: len(self._load[it]))
        reference = actor.compute.remote(chunk.items)
        self._load[actor].append(reference)
        return reference, actor

    def _take(self, waiting: deque[list[Any]]) -> tuple[Chunk, Computed]:
        """Wait for the first chunk; where its engine is lost, start another one and ask again."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        while True:
            chunk, reference, actor = waiting[0]
            while not ray.wait([reference], timeout=_NOTICE_S)[0]:
                _LOG.warning(
                    "ray: no result for %.0f s; `ray status` says whether engines wait for cores",
                    _NOTICE_S,
                )
            try:
                computed = ray.get(reference)
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError as error:
                self._replace(actor, waiting, error)
                continue
            self._num_lost = 0
            waiting.popleft()
            return chunk, computed

    def _replace(self, lost: Any, waiting: Iterable[list[Any]], error: Exception) -> None:
        """Start an engine in place of a lost one, whose chunks are computed again."""
        import ray

        self._num_lost += 1
        reason = _reason(error)
        if self._num_lost >= _MAX_LOST:
            raise EngineInternalError(
                f"ray: lost {self._num_lost} engines and got no result in between: {reason}"
            ) from None
        _LOG.warning("ray: an engine is lost, its rows are computed again: %s", reason)
        # Where only the connection was lost, it would keep its cores from the new one.
        with contextlib.suppress(Exception):
            ray.kill(lost)
        del self._load[lost]
        if not self._load:
            self._load[self._start()] = []
        for entry in waiting:  # Engines that run already are done with them sooner.
            if entry[2] is lost:
                entry[1:] = self._submit(entry[0])
        while len(self._load) < self._count:
            self._load[self._start()] = []

    def close(self) -> None:
        """Stop the actors, and disconnect."""
        import ray

        with contextlib.suppress(Exception):
            for actor in self._load:
                ray.kill(actor)
        ray.shutdown()


def _connect(address: str) -> None:
    """Connect to a cluster, or start one here; raises EngineUnavailableError."""
    import ray

    try:
        if address == _LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # The default, 15, starves engines beside any other work: one took minutes to start.
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(
                address=_LOCAL,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=_OBJECT_STORE_BYTES,
            )
            return
        # Where nobody listens, Ray itself tries for a minute, and then ends the process.
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():
            socket.create_connection((host.removeprefix("ray://"), int(port)), _CONNECT_S).close()
        ray.init(address=address, log_to_driver=False)
    except (OSError, OverflowError, RuntimeError, SystemExit, ValueError) as error:
        reason = " ".join(str(error).split())
        raise EngineUnavailableError(
            f"ray: cannot use the cluster {address!r}, want HOST:PORT, auto or local: {reason}"
        ) from None


def _count(engines: Engines, num_cores: float) -> int:
    """Return how many engines to start; raises EngineUnavailableError where there is no room."""
    count = engines.count or int(num_cores // engines.num_threads)
    if not count or count * engines.num_threads > num_cores:
        raise EngineUnavailableError(
            f"ray: got {num_cores:g} cores in the cluster, want {max(count, 1)} engines of "
            f"{engines.num_threads} (--ray_workers, --num_threads)"
        )
    return count


def _reason(error: Exception) -> str:
    """Return the last line of Ray's message, where the error of an engine that cannot start is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    is_start = any("creation task" in line for line in lines[:2])
    return lines[-1] if is_start else " ".join(lines)[:300]
