"""The calls of a Runtime, for every task alike: one input, many, a stream, asynchronously.

The named methods of each task (answer, classify, ...) are made of these, in the task's own room.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import InputError
from bert_rt.scheduling.requests import LOWEST_PRIORITY
from bert_rt.tasks.base import CallOptions, Task
from bert_rt.tasks.session import Session

__all__ = ["Asking"]

_MAX_TOP_K = 10_000


class Asking:
    """What a Runtime can be asked. Thread-safe."""

    session: Session
    manifest: Manifest
    task: Task[Any, Any, Any]
    limits: Any

    @functools.cached_property
    def head(self) -> Any:
        """What the artifact's logits mean, where its task has several kinds of heads."""
        return self.task.read_head(self.manifest)

    def options(
        self,
        task: Task[Any, Any, Any] | None = None,
        *,
        top_k: int | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
        client: Hashable | None = None,
        **wanted: Any,
    ) -> CallOptions:
        """Make the options of a call.

        Args:
            task: The task that is asked; None for the artifact's own.
            top_k: Results wanted of every input; None for as many as the task gives by itself.
            timeout_s: Seconds from now to the deadline; None for none.
            priority: As in CallOptions: 1 to 9, the lowest; 0 for the default.
            client: As in CallOptions: whose request it is, for its share of the engine.
            **wanted: Fields that the task's own options have beside these.

        Returns:
            The options, with this Runtime's limits and the artifact's score_temperature.

        Raises:
            InputError: The artifact is for another task, or a value is out of range.
        """
        task = task or self.task
        if self.task.name != task.name:
            raise InputError(
                f"task: got a {self.task.name} artifact, which is asked with "
                f"`{self.task.method}`; want {task.name}"
            )
        if top_k is None:
            top_k = task.default_top_k(self.manifest)
        elif isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= _MAX_TOP_K:
            raise InputError(f"top_k: got {top_k!r}, want an integer from 1 to {_MAX_TOP_K}")
        is_priority = isinstance(priority, int) and not isinstance(priority, bool)
        if not is_priority or not 0 <= priority <= LOWEST_PRIORITY:
            raise InputError(
                f"priority: got {priority!r}, want an integer from 1 (the highest) to "
                f"{LOWEST_PRIORITY}, or 0 for the default"
            )
        try:
            hash(client)
        except TypeError:
            raise InputError(
                f"client: got a {type(client).__name__}, want a hashable value such as a string"
            ) from None
        return task.options_class(
            limits=self.limits,
            labels=self.manifest.labels,
            head=self.head,
            top_k=top_k,
            deadline_s=math.inf if timeout_s is None else time.monotonic() + timeout_s,
            score_temperature=self.manifest.score_temperature,
            priority=priority,
            client=client,
            **wanted,
        )

    def ask(self, item: Any, options: CallOptions | None = None) -> Any:
        """Compute one input.

        Args:
            item: What the task takes.
            options: What options made; None for its defaults.

        Returns:
            The task's result.

        Raises:
            InputError: The input is bad.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: The deadline has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        options = options or self.options()
        item = self.task.check_input(item)
        return next(self.session.stream(self.task, [item], options, place=""))

    def ask_batch(self, items: Iterable[Any], options: CallOptions | None = None) -> list[Any]:
        """Compute many inputs together; all are checked before any is computed.

        Args:
            items: What the task takes.
            options: What options made; None for its defaults.

        Returns:
            One result an input, in order.

        Raises:
            BertRtError: As in ask; the message of an InputError names the input.
        """
        task, options = self.task, options or self.options()
        checked = [task.check_input(item, f"{task.noun}[{i}]") for i, item in enumerate(items)]
        return list(self.session.stream(task, checked, options))

    def ask_stream(self, items: Iterable[Any], options: CallOptions | None = None) -> Iterator[Any]:
        """Compute any number of inputs in order and bounded memory; a bad one raises at its place.

        Args:
            items: What the task takes; pulled as they are needed.
            options: What options made; None for its defaults.

        Returns:
            An iterator of results.
        """
        return self.session.stream(self.task, items, options or self.options())

    def submit(self, item: Any, options: CallOptions | None = None) -> Future[Any]:
        """Compute one input without waiting for it.

        Args:
            item: What the task takes.
            options: What options made; None for its defaults.

        Returns:
            A future of the task's result; its errors are those of ask, and cancelling it drops the
            request. Requests that wait are computed together, however few threads submit them.

        Raises:
            InputError: The input is bad.
            OverloadedError: Too much is waiting already, or the deadline is too near for it.
        """
        item = self.task.check_input(item)
        return self.session.submit(self.task, item, options or self.options())

    async def ask_async(self, item: Any, options: CallOptions | None = None) -> Any:
        """Do what ask does without blocking the event loop; cancelling drops the request.

        No thread waits for the result, so any number of calls may be under way.
        """
        import asyncio  # whoever calls this has it; others would wait for it

        return await asyncio.wrap_future(self.submit(item, options))
