"""A queue with an engine and a clock that only the tests move."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

import numpy as np

from bert_rt.errors import (
    EngineInternalError,
)
from bert_rt.scheduling.batches import Batch
from bert_rt.scheduling.queue import Queue
from bert_rt.scheduling.requests import Asked, Request
from bert_rt.types import Outputs, TokenSequence

TOKENS_PER_S = 10_000.0


def windows(*lengths: int) -> list[TokenSequence]:
    return [TokenSequence(np.zeros(n, np.int32), np.zeros(n, np.int32)) for n in lengths]


def queue_of(**options: Any) -> Queue:
    defaults = {"max_batch_tokens": 4096, "max_queue_tokens": 10**9, "is_packed": True}
    return Queue(**{**defaults, **options})


class Simulation:
    """A queue with an engine that takes its time on a clock of its own."""

    def __init__(self, **options: Any) -> None:
        self.queue = queue_of(**options)
        self.now = 0.0
        self.batches: list[list[tuple[Request, int]]] = []
        self.poison: set[Request] = set()
        self.noise = 0.0
        self.random = random.Random(2)

    def ask(self, *lengths: int, timeout_s: float | None = None, **asked: Any) -> Request:
        if timeout_s is not None:
            asked["deadline_s"] = self.now + timeout_s
        request = self.queue.submit(sum(lengths), self.now, Asked(**asked))
        self.queue.fill(request, windows(*lengths))
        return request

    def step(self) -> Batch | None:
        """Run one batch; new requests may come in between begin and end."""
        batch = self.begin()
        if batch is not None:
            self.end(batch)
        return batch

    def begin(self) -> Batch | None:
        batch = self.queue.next_batch(self.now)
        if batch is not None:
            self.batches.append([*batch.windows.values()])
        return batch

    def end(self, batch: Batch, done: Collection[int] | None = None) -> None:
        """Be done with a batch, or with some of its windows."""
        self.now += batch.cost / TOKENS_PER_S * self.random.lognormvariate(0.0, self.noise)
        if any(request in self.poison for request, _ in batch.windows.values()):
            self.queue.fail(batch, EngineInternalError("poisoned"))
            return
        outputs: dict[int, Outputs] = {
            number: {"n": np.array([index])}
            for number, (_, index) in batch.windows.items()
            if done is None or number in done
        }
        self.queue.complete(batch, outputs, self.now)

    def run(self) -> None:
        while self.step() is not None:
            pass

    def lengths(self) -> list[list[int]]:
        return [[request.lengths[index] for request, index in batch] for batch in self.batches]
