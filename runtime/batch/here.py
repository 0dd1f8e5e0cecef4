"""Chunks computed in this process: while one is tokenized or written, the engine has another."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from bert_rt.api import Runtime
from bert_rt.computing import Computed, compute
from bert_rt.tasks.base import CallOptions
from runtime.batch.chunks import Chunk

__all__ = ["NUM_CHUNKS", "compute_here"]

NUM_CHUNKS = 2  # of more, one would only wait: the engine runs the batches of both in turn


def compute_here(
    runtime: Runtime, options: CallOptions, chunks: Iterable[Chunk], *, num_chunks: int = NUM_CHUNKS
) -> Generator[tuple[Chunk, Computed]]:
    """Compute chunks, and keep the cores busy between them.

    An engine that pads computes them one after the other: its results depend, in their last bits,
    on the batch, and a run that was interrupted must write what an uninterrupted one writes.

    Args:
        runtime: Computes.
        options: What is asked.
        chunks: Read as they are needed.
        num_chunks: How many at a time at most; a result comes out before a further one is read.

    Yields:
        The chunks in order, with their results.

    Raises:
        EngineError: The engine failed.
        Exception: What reading a chunk raised, once those before it have come out.
    """
    form = runtime.task.rows()
    if not runtime.info.is_packed:
        num_chunks = 1
    ended = threading.Event()
    options = dataclasses.replace(options, cancelled=ended)
    waiting: deque[tuple[Chunk, Future[Computed]]] = deque()
    source = iter(chunks)
    with ThreadPoolExecutor(num_chunks, "bert-rt-batch") as pool:
        try:
            while True:
                try:
                    chunk = next(source, None)
                except Exception:
                    # A row that cannot be used costs none of those before it.
                    while waiting:
                        yield _first(waiting)
                    raise
                if chunk is None:
                    break
                computed = pool.submit(compute, runtime, form, chunk.items, options)
                waiting.append((chunk, computed))
                if len(waiting) >= num_chunks:
                    yield _first(waiting)
            while waiting:
                yield _first(waiting)
        finally:
            # Where the caller has ended, or been interrupted, nobody wants the rest.
            ended.set()
            pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[Chunk, Future[Computed]]]) -> tuple[Chunk, Computed]:
    chunk, computed = waiting.popleft()
    return chunk, computed.result()
