"""What a queue gives to its driver: a batch to compute, and figures of what waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bert_rt.scheduling.requests import Request
from bert_rt.types import TokenSequence

__all__ = ["Batch", "QueueStats", "Window"]

Window = tuple[Request, int]
"""A request, and an index of a window of it."""


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
        windows: Of every window that is not done its request and its index there; by a number, in
            the order in which they came into the batch.
        num_tokens: Tokens of those, without padding.
        cost: Tokens with the engine's padding.
        started_s: When it was planned, or the last of it was done.
        since_s: When its driver began to wait for cores.
        is_again: Whether it has failed with others, and is computed by itself.
        num_joined: Windows that have come into it.
    """

    windows: dict[int, Window]
    num_tokens: int
    cost: int
    started_s: float
    since_s: float
    is_again: bool = False
    num_joined: int = 0

    @property
    def sequences(self) -> list[TokenSequence]:
        """What the engine reads."""
        return [request.windows[index] for request, index in self.windows.values()]

    @property
    def requests(self) -> dict[Request, list[int]]:
        """The windows by request."""
        found: dict[Request, list[int]] = {}
        for request, index in self.windows.values():
            found.setdefault(request, []).append(index)
        return found

    def add(self, windows: Sequence[Window], cost: int) -> None:
        """Take windows, which cost so many tokens with padding."""
        self.windows |= enumerate(windows, self.num_joined)
        self.num_joined += len(windows)
        self.num_tokens += sum(request.lengths[index] for request, index in windows)
        self.cost += cost

    def remove(self, numbers: Iterable[int]) -> tuple[list[Window], int, int]:
        """Give windows out, with their tokens, and with their share of the padding."""
        gone = [self.windows.pop(number) for number in numbers]
        num_tokens = sum(request.lengths[index] for request, index in gone)
        cost = round(self.cost * num_tokens / max(1, self.num_tokens))
        self.num_tokens -= num_tokens
        self.cost -= cost
        return gone, num_tokens, cost
