"""A request in the queue: the windows of one call, and what has become of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bert_rt.errors import BertRtError
from bert_rt.types import Outputs, TokenSequence

if TYPE_CHECKING:
    from bert_rt.scheduling.ranking import Flow

__all__ = [
    "DEFAULT_PRIORITY",
    "LOWEST_PRIORITY",
    "Asked",
    "CancelFlag",
    "Request",
    "RequestCancelledError",
]

LOWEST_PRIORITY = 9
"""The highest is 1."""
DEFAULT_PRIORITY = 5
"""What the priority 0 stands for."""


class CancelFlag(Protocol):
    """What tells that a request is no longer wanted, such as threading.Event."""

    def is_set(self) -> bool:
        """Whether it is cancelled."""
        ...


class RequestCancelledError(Exception):
    """A request was cancelled by its own caller, who knows; so it is no BertRtError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller wants of the queue, beside the windows.

    Attributes:
        deadline_s: When to give up, in seconds of the clock that the queue is driven by.
        cancelled: Give up when this is set; looked at between batches.
        priority: 1 is the highest, LOWEST_PRIORITY the lowest; 0 stands for DEFAULT_PRIORITY. A
            request waits for all of a higher priority.
        client: Requests of one client share one turn; None for a turn of its own.
    """

    deadline_s: float = math.inf
    cancelled: CancelFlag | None = None
    priority: int = 0
    client: Hashable | None = None

    @property
    def level(self) -> int:
        """The priority, with the default in its place."""
        return self.priority or DEFAULT_PRIORITY


@dataclass(slots=True, eq=False)
class Request:
    """One call's windows. Only the queue changes it.

    Attributes:
        asked: What the caller wants.
        arrival: Counts requests.
        num_tokens: Tokens of all windows; an estimate until they are known.
        num_left: Tokens of the windows that are in no batch yet; an estimate until they are known.
        estimate: The first estimate.
        is_deferred: Whether the queue says when its windows are to be made (Queue.take_deferred).
        on_done: Called by the queue when is_done has become true; must not call the queue.
        windows: What is computed; empty until known.
        lengths: Tokens of every window.
        waiting: Windows that are in no batch yet, in the order in which they will be.
        results: Outputs by window.
        error: What went wrong, if anything.
        is_known: Whether its windows are known.
        is_done: Whether result returns or raises at once.
        flow: Where it stands in the ranking; None when it does not.
    """

    asked: Asked
    arrival: int
    num_tokens: int
    num_left: int
    estimate: int
    is_deferred: bool = False
    on_done: Callable[[Request], None] | None = None
    windows: Sequence[TokenSequence] = ()
    lengths: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    results: dict[int, Outputs] = field(default_factory=dict)
    error: BaseException | None = None
    is_known: bool = False
    is_done: bool = False
    flow: Flow | None = None

    @property
    def order(self) -> tuple[float, int]:
        """Its place among the requests of its client: the earlier deadline first."""
        return self.asked.deadline_s, self.arrival

    @property
    def is_cancelled(self) -> bool:
        """Whether its caller has cancelled."""
        return self.asked.cancelled is not None and self.asked.cancelled.is_set()

    @property
    def progress(self) -> str:
        """How far it has come, for messages."""
        if not self.is_known:
            return "before it was tokenized"
        return f"with {len(self.results)} of {len(self.windows)} windows done"

    def result(self) -> list[Outputs]:
        """Return the outputs of its windows.

        Returns:
            One element a window, once is_done.

        Raises:
            BertRtError: Its error.
            RequestCancelledError: It was cancelled.
        """
        if self.error is not None:
            # An exception of its own for each caller: raising one adds to its traceback.
            is_ours = isinstance(self.error, BertRtError | RequestCancelledError)
            raise (copy.copy(self.error) if is_ours else self.error) from self.error.__cause__
        return [self.results[index] for index in range(len(self.windows))]
