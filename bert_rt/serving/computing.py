"""From checked inputs to results without a thread that waits: admission, deadline, disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive

from bert_rt.errors import DeadlineExceededError, InputTooLongError
from bert_rt.serving.bodies import ClientGoneError
from bert_rt.serving.measures import Stage, TimedResult, stages
from bert_rt.serving.models import Model
from bert_rt.serving.settings import Settings

__all__ = ["Computed", "Wanted", "compute"]

# The engine's own answer to a passed deadline is better than ours, and it is hardly later.
_GRACE_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request asks for, whatever its shape.

    Attributes:
        items: What Task.check_input takes.
        top_k: Results wanted of every input; None for the task's own number.
        timeout_ms: The request's deadline; None for the service's.
        priority: 1 is the highest; 0 for the default.
        client: Who asks: the requests of one client share one turn at the engine; "" where nobody
            is named, and the request has a turn of its own.
        options: Fields of the task's own options.
    """

    items: Sequence[Any]
    top_k: int | None = None
    timeout_ms: float | None = None
    priority: int = 0
    client: str = ""
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Computed:
    """What was computed for a request.

    Attributes:
        results: One an input, in order.
        num_tokens: Tokens that the model read.
        stages: When the request was tokenized, waited and was computed.
    """

    results: list[Any]
    num_tokens: int
    stages: tuple[Stage, ...]


async def compute(model: Model, wanted: Wanted, receive: Receive, settings: Settings) -> Computed:
    """Compute the inputs of one request, together with those of others.

    Every input is admitted by itself; where one is refused, so is the request, and nothing of it
    is computed any more.

    Args:
        model: A model that is ready.
        wanted: What is asked for.
        receive: ASGI's, which tells that the client has gone; the body must have been read.
        settings: The limits.

    Returns:
        The results.

    Raises:
        InputError: An input or an option is bad.
        OverloadedError: Too much is waiting already.
        DeadlineExceededError: The deadline has passed.
        ClientGoneError: The client closed the connection.
        EngineError: The engine failed.
    """
    began_s, is_good = time.monotonic(), False
    try:
        computed = await _compute(model, wanted, receive, settings)
        is_good = True
    finally:
        model.count_request(is_good, time.monotonic() - began_s)
    return computed


async def _compute(model: Model, wanted: Wanted, receive: Receive, settings: Settings) -> Computed:
    runtime = model.runtime
    assert runtime is not None
    admitted_s = time.monotonic()
    timeout_s = min(wanted.timeout_ms or settings.timeout_ms, settings.max_timeout_ms) / 1000
    options = runtime.options(
        top_k=wanted.top_k,
        timeout_s=timeout_s,
        priority=wanted.priority,
        # The inputs of one request share a turn, so that a long list does not crowd out others.
        client=wanted.client or object(),
        **wanted.options,
    )
    items = _check(model, wanted.items, settings)
    futures: list[Future[TimedResult]] = []
    task: Any = model.timed_task
    try:
        for item in items:
            futures += [runtime.session.submit(task, item, options)]
        results = await _results(futures, receive, timeout_s)
    finally:
        for future in futures:
            future.cancel()  # Does nothing where it is done.
    for result in results:
        model.count_result(result.value, result.queue_s)
    return Computed(
        [result.value for result in results],
        sum(result.num_tokens for result in results),
        stages(admitted_s, results),
    )


def _check(model: Model, items: Sequence[Any], settings: Settings) -> list[Any]:
    """Check inputs as the task wants them and as the service allows."""
    assert model.runtime is not None
    task = model.runtime.task
    if len(items) > settings.max_items:
        raise InputTooLongError(
            f"inputs: got {len(items)}, want at most max_items = {settings.max_items}"
        )
    checked = []
    for index, item in enumerate(items):
        place = f"{task.noun}[{index}]" if len(items) > 1 else ""
        checked.append(task.check_input(item, place))
        longest = max(map(len, task.texts(checked[-1])))
        if longest > settings.max_text_chars:
            raise InputTooLongError(
                f"{place or task.noun}: got a text of {longest} characters, want at most "
                f"max_text_chars = {settings.max_text_chars}"
            )
    return checked


async def _results(
    futures: Sequence[Future[TimedResult]], receive: Receive, timeout_s: float
) -> list[TimedResult]:
    """Wait for all, for the first error, for the client to go or for the deadline."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end(_: object = None) -> None:
        if not ended.done():
            ended.set_result(None)

    num_left = itertools.count(len(futures) - 1, -1)  # counted by several threads

    def count(future: Future[TimedResult]) -> None:
        if next(num_left) == 0 or _is_failed(future):
            # The loop may have ended with the server.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end)

    gone = asyncio.ensure_future(_wait_until_gone(receive))
    gone.add_done_callback(end)
    timer = loop.call_later(timeout_s + _GRACE_S, end)
    try:
        # One call of the loop for all inputs: waking it costs as much as a good part of a request.
        for future in futures:
            future.add_done_callback(count)
        if futures:
            await ended
    finally:
        timer.cancel()
        gone.cancel()
    num_done = sum(future.done() for future in futures)
    failed = next((future for future in futures if _is_failed(future)), None)
    if failed is not None:
        failed.result()
    if num_done == len(futures):
        return [future.result() for future in futures]
    if gone.done():
        raise ClientGoneError
    raise DeadlineExceededError(
        f"deadline: passed with {num_done} of {len(futures)} inputs done, and the engine busy"
    )


def _is_failed(future: Future[TimedResult]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
