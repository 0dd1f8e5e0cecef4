"""What a queue gives to its driver: a batch to compute, and figures of what waits."""

from __future__ import annotations

from dataclasses import dataclass

from bert_rt.scheduling.requests import Request
from bert_rt.types import TokenSequence

__all__ = ["Batch", "QueueStats"]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What waits, the batch that runs included, and what was done so far.

    Attributes:
        num_requests: Requests that are not done.
        num_tokens: Their tokens, by an estimate where they are not tokenized yet.
        predicted_wait_s: Seconds that a new request of 512 tokens and the default priority would
            wait before its own windows are computed; 0.0 before the first batch.
        tokens_per_second: Measured over the last batches, waiting for cores included; None before
            the first one.
        num_batches: Batches that were computed.
        num_batch_tokens: Tokens of those, without padding.
        num_windows: Windows of those.
        num_unwanted_windows: Those among them that were computed for nobody: their request was
            cancelled or given up, or done after its deadline.
        running_s: Seconds since the batch that runs was begun; 0.0 where none does.
    """

    num_requests: int = 0
    num_tokens: int = 0
    predicted_wait_s: float = 0.0
    tokens_per_second: float | None = None
    num_batches: int = 0
    num_batch_tokens: int = 0
    num_windows: int = 0
    num_unwanted_windows: int = 0
    running_s: float = 0.0


@dataclass(slots=True, eq=False)
class Batch:
    """Windows that are computed together.

    Attributes:
        windows: Requests, and an index of a window of each.
        num_tokens: Tokens without padding.
        cost: Tokens with the engine's padding.
        started_s: When it was planned.
        since_s: When its driver began to wait for cores.
    """

    windows: list[tuple[Request, int]]
    num_tokens: int
    cost: int
    started_s: float
    since_s: float

    @property
    def sequences(self) -> list[TokenSequence]:
        """What the engine reads."""
        return [request.windows[index] for request, index in self.windows]

    @property
    def requests(self) -> dict[Request, list[int]]:
        """The windows by request."""
        found: dict[Request, list[int]] = {}
        for request, index in self.windows:
            found.setdefault(request, []).append(index)
        return found
