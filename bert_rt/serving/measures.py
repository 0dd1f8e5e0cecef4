"""Figures for Prometheus: every series is there from the start, and no label comes from a request.

Each service has a registry of its own, so that several may live in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bert_rt.engines.watching import BatchRun, WatchedEngine
from bert_rt.scheduling.batches import QueueStats
from bert_rt.tasks.base import CallOptions, Prepared, Task
from bert_rt.tasks.session import Session
from bert_rt.types import Outputs, TokenSequence

__all__ = ["CODES", "CONTENT_TYPE", "Measures", "Stage", "TimedResult", "TimedTask", "stages"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Every status that the service gives; 499 where the client was gone before its response.
CODES = (200, 204, 304, 400, 401, 403, 404, 405, 408, 413, 415, 429, 499, 500, 503, 504)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOKENS = (16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384)


class Measures:
    """The figures of one service. Thread-safe."""

    def __init__(self) -> None:
        """Make the metrics; add_model makes their series."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "bert_rt_requests",
            "Responses by status",
            ("model", "task", "code"),
            registry=registry,
        )
        self._answers = Counter(
            "bert_rt_answers", "Results by kind", ("model", "kind"), registry=registry
        )
        self._durations = {
            name: Histogram(
                f"bert_rt_{name}_duration_seconds",
                text,
                ("model",),
                buckets=_SECONDS,
                registry=registry,
            )
            for name, text in (
                ("request", "From a request's headers to the end of its response"),
                ("tokenize", "Tokenizing the inputs that were taken together"),
                ("queue", "Waiting of an input for batches before its own"),
                ("inference", "Running a batch on the engine"),
            )
        }
        self._batch_tokens = Histogram(
            "bert_rt_batch_tokens",
            "Tokens of a batch",
            ("model",),
            buckets=_TOKENS,
            registry=registry,
        )
        self._gauges = {
            name: Gauge(name, text, ("model",), registry=registry)
            for name, text in (
                ("bert_rt_queue_depth", "Inputs that wait, those of the running batch included"),
                ("bert_rt_queue_tokens", "Tokens that wait, those of the running batch included"),
                ("bert_rt_windows", "Windows that were computed; only grows"),
                ("bert_rt_windows_unwanted", "Those for which nobody waited any more; only grows"),
                ("bert_rt_model_ready", "1 where the model answers"),
            )
        }
        self._add_requests("", "")

    def add_model(
        self,
        model: str,
        task: str,
        kinds: tuple[str, ...],
        queue: Callable[[], QueueStats],
        is_ready: Callable[[], bool],
    ) -> None:
        """Make the series of a model.

        Args:
            model: Its name.
            task: Its task's name.
            kinds: The kinds of its results.
            queue: Tells how much waits, and what was computed.
            is_ready: Tells whether it answers.
        """
        self._add_requests(model, task)
        for kind in kinds:
            self._answers.labels(model, kind)
        for histogram in (*self._durations.values(), self._batch_tokens):
            histogram.labels(model)
        self._gauges["bert_rt_queue_depth"].labels(model).set_function(lambda: queue().num_requests)
        self._gauges["bert_rt_queue_tokens"].labels(model).set_function(lambda: queue().num_tokens)
        self._gauges["bert_rt_windows"].labels(model).set_function(lambda: queue().num_windows)
        self._gauges["bert_rt_windows_unwanted"].labels(model).set_function(
            lambda: queue().num_unwanted_windows
        )
        self._gauges["bert_rt_model_ready"].labels(model).set_function(is_ready)

    def _add_requests(self, model: str, task: str) -> None:
        for code in CODES:
            self._requests.labels(model, task, str(code))
        self._durations["request"].labels(model)

    def count_request(self, model: str, task: str, code: int, duration_s: float) -> None:
        """Count a response.

        Args:
            model: Name of the model that was asked, or "".
            task: Its task, or "".
            code: The status; one that is not in CODES counts as 500.
            duration_s: Seconds that the request took.
        """
        self._requests.labels(model, task, str(code if code in CODES else 500)).inc()
        self._durations["request"].labels(model).observe(duration_s)

    def count_batch(self, model: str, run: BatchRun) -> None:
        """Count a batch of a model."""
        self._batch_tokens.labels(model).observe(run.num_tokens)
        self._durations["inference"].labels(model).observe(run.duration_s)

    def count_tokenizing(self, model: str, duration_s: float) -> None:
        """Count the time that tokenizing took."""
        self._durations["tokenize"].labels(model).observe(duration_s)

    def count_result(self, model: str, kind: str, queue_s: float) -> None:
        """Count a result and the time that its input waited."""
        self._answers.labels(model, kind).inc()
        self._durations["queue"].labels(model).observe(queue_s)

    def render(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return generate_latest(self._registry)


@dataclass(frozen=True, slots=True)
class TimedResult:
    """A result, its tokens, and when its input got on, by time.monotonic().

    Attributes:
        value: The result.
        num_tokens: Tokens that the model read.
        ready_s: When it was tokenized and waited for a batch.
        began_s: When its last batch began.
        ended_s: When that had ended.
    """

    value: Any
    num_tokens: int
    ready_s: float
    began_s: float
    ended_s: float

    @property
    def queue_s(self) -> float:
        """Seconds that the input waited for other batches than its last one."""
        return self.began_s - self.ready_s


class Stage(NamedTuple):
    """A part of a request's way, by time.monotonic()."""

    name: str
    began_s: float
    ended_s: float


def stages(admitted_s: float, results: Sequence[TimedResult]) -> tuple[Stage, ...]:
    """Say when a request was tokenized, when it waited and when it was computed.

    Args:
        admitted_s: When its inputs were taken, by time.monotonic().
        results: At least one.

    Returns:
        Three stages, one behind the other. That of the queue ends as the first input's last batch
        begins; other inputs may wait longer, while this one is computed.
    """
    ready_s = min(result.ready_s for result in results)
    began_s = min(result.began_s for result in results)
    ended_s = max(result.ended_s for result in results)
    return (
        Stage("prepare", admitted_s, ready_s),
        Stage("queue", ready_s, began_s),
        Stage("inference", began_s, ended_s),
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A prepared input, and when it was ready."""

    prepared: Prepared
    ready_s: float

    @property
    def sequences(self) -> Sequence[TokenSequence]:
        """What the model reads."""
        return self.prepared.sequences


class TimedTask:
    """A model's task, which measures what becomes of its inputs."""

    def __init__(
        self,
        task: Task[Any, Any, Any],
        engine: WatchedEngine | None,
        count_tokenizing: Callable[[float], None],
    ) -> None:
        """Measure a task.

        Args:
            task: The task.
            engine: Runs its batches, where it is watched.
            count_tokenizing: Called with the seconds that tokenizing took.
        """
        self._task = task
        self._engine = engine
        self._count_tokenizing = count_tokenizing
        self.num_chars = self._task.num_chars
        self.estimate_tokens = self._task.estimate_tokens

    def prepare(
        self, items: Sequence[Any], session: Session, options: CallOptions
    ) -> Iterator[_Prepared]:
        """Tokenize, and measure that."""
        began_s = time.monotonic()
        for prepared in self._task.prepare(items, session, options):
            yield _Prepared(prepared, time.monotonic())
        self._count_tokenizing(time.monotonic() - began_s)

    def decode(
        self, prepared: _Prepared, outputs: Sequence[Outputs], options: CallOptions
    ) -> TimedResult:
        """Decode, and tell how the input got on."""
        ended_s = time.monotonic()
        last = None if self._engine is None else self._engine.last
        last_s = 0.0 if last is None else last.duration_s
        began_s = max(prepared.ready_s, ended_s - last_s)
        value = self._task.decode(prepared.prepared, outputs, options)
        num_tokens = sum(it.num_tokens for it in prepared.sequences)
        return TimedResult(value, num_tokens, prepared.ready_s, began_s, ended_s)
