"""Chunks computed on a cluster of Ray: an actor an engine. What a lost one had is repeated."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bert_rt.computing import Computed, compute
from bert_rt.errors import EngineUnavailableError
from bert_rt.ray import open_runtime, put_artifact
from runtime.batch.chunks import Chunk

__all__ = ["Cluster", "Engines"]

# Chunks that wait for or are in an engine, of each: one is computed, the next is there already.
_CHUNKS_AN_ENGINE = 2
_LOCAL = "local"
# An engine that cannot start anywhere is lost again and again.
_MAX_LOST = 100


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
            EngineUnavailableError: The cluster has no room for an engine.
            OSError: The cluster cannot be reached.
        """
        import ray

        if address == _LOCAL:
            ray.init(address=_LOCAL, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
        num_cores = ray.cluster_resources().get("CPU", 0)
        count = engines.count or int(num_cores // engines.num_threads)
        if count * engines.num_threads > num_cores or not count:
            ray.shutdown()
            raise EngineUnavailableError(
                f"ray: got {num_cores:g} cores in the cluster, want {max(count, 1)} engines of "
                f"{engines.num_threads} (--ray_workers, --num_threads)"
            )
        remote: Any = ray.remote(num_cpus=engines.num_threads)(_Worker)
        artifact = [put_artifact(engines.artifact)]
        self._start = lambda: remote.remote(artifact, engines)
        self._load: dict[Any, list[Any]] = {self._start(): [] for _ in range(count)}
        self._num_lost = 0

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
        """Wait for the first chunk; where its actor is lost, start another one and ask again."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        while True:
            chunk, reference, actor = waiting[0]
            try:
                computed = ray.get(reference)
            except RayTaskError as error:
                raise error.cause from None
            except RayActorError as error:
                self._num_lost += 1
                if self._num_lost > _MAX_LOST:
                    reason = " ".join(str(error).split())[:300]
                    raise EngineUnavailableError(
                        f"ray: lost {self._num_lost} engines, want at most {_MAX_LOST}: {reason}"
                    ) from None
                del self._load[actor]
                self._load[self._start()] = []
                for entry in waiting:
                    if entry[2] is actor:
                        entry[1:] = self._submit(entry[0])
                continue
            waiting.popleft()
            return chunk, computed

    def close(self) -> None:
        """Stop the actors, and disconnect."""
        import ray

        with contextlib.suppress(Exception):
            for actor in self._load:
                ray.kill(actor)
        ray.shutdown()
