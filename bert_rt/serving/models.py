"""The models of a service: loaded or loading, found by name, ready or not."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bert_rt.api import Runtime
from bert_rt.engines.watching import BatchRun
from bert_rt.errors import ConfigError
from bert_rt.serving.failures import HttpFailure
from bert_rt.serving.measures import Measures, TimedTask
from bert_rt.tasks.base import Task
from bert_rt.tasks.forms.http import HttpForm

__all__ = ["Counts", "Model", "Models", "Source"]

_LOG = logging.getLogger(__name__)

# A Runtime, the path of an artifact, or what loads a Runtime when the service starts.
Source = Runtime | str | os.PathLike[str] | Callable[[], Runtime]

_CLOSE_S = 5.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(slots=True)
class Counts:
    """What a model has done, in numbers that only grow; times in seconds.

    Attributes:
        num_requests: Requests that were answered.
        request_s: Time that they took.
        num_failed: Requests that were answered by an error.
        failed_s: Time that they took.
        num_inputs: Results.
        queue_s: Time that their inputs waited.
        tokenize_s: Time that tokenizing took.
        num_batches: Batches.
        batch_s: Time that the engine took.
        last_s: When the last batch ended, in seconds since 1970.
    """

    num_requests: int = 0
    request_s: float = 0.0
    num_failed: int = 0
    failed_s: float = 0.0
    num_inputs: int = 0
    queue_s: float = 0.0
    tokenize_s: float = 0.0
    num_batches: int = 0
    batch_s: float = 0.0
    last_s: float = 0.0


class Model:
    """One model of a service.

    Attributes:
        name: As clients call it.
        runtime: What answers; None while it loads, or where loading failed.
        error: Why loading failed, or "".
        counts: What it has done.
    """

    def __init__(self, name: str, hang_s: float) -> None:
        """Name a model that is not loaded yet.

        Args:
            name: As clients call it.
            hang_s: As in Settings.
        """
        self.name = name
        self.runtime: Runtime | None = None
        self.error = ""
        self.counts = Counts()
        self._measures: Measures | None = None
        self._form: HttpForm | None = None
        self._timed_task: TimedTask | None = None
        self._hang_s = hang_s

    def open(self, runtime: Runtime, measures: Measures) -> None:
        """Take the model's Runtime into use.

        Args:
            runtime: The Runtime.
            measures: Gets the model's series.
        """
        form = self._form = runtime.task.http()
        session = runtime.session

        measures.add_model(
            self.name,
            runtime.task.name,
            form.kinds,
            lambda: session.stats,
            lambda: self.state == "ready",
        )
        if session.engine is not None:
            session.engine.listeners.append(self._count_batch)
        self._timed_task = TimedTask(runtime.task, session.engine, self._count_tokenizing)
        self._measures = measures
        self.runtime = runtime

    def _count_batch(self, run: BatchRun) -> None:
        assert self._measures is not None
        self._measures.count_batch(self.name, run)
        self.counts.num_batches += 1
        self.counts.batch_s += run.duration_s
        self.counts.last_s = time.time()

    def _count_tokenizing(self, duration_s: float) -> None:
        assert self._measures is not None
        self._measures.count_tokenizing(self.name, duration_s)
        self.counts.tokenize_s += duration_s

    def count_result(self, result: Any, queue_s: float) -> None:
        """Count a result and the time that its input waited."""
        assert self._measures is not None
        self._measures.count_result(self.name, self.form.kind(result), queue_s)
        self.counts.num_inputs += 1
        self.counts.queue_s += queue_s

    def count_request(self, is_good: bool, duration_s: float) -> None:
        """Count a request that asked for results."""
        if is_good:
            self.counts.num_requests += 1
            self.counts.request_s += duration_s
        else:
            self.counts.num_failed += 1
            self.counts.failed_s += duration_s

    @property
    def form(self) -> HttpForm:
        """How it is asked, once it is loaded."""
        assert self._form is not None
        return self._form

    @property
    def timed_task(self) -> TimedTask:
        """Its task with figures, once it is loaded; one for all requests, tokenized together."""
        assert self._timed_task is not None
        return self._timed_task

    @property
    def task(self) -> Task[Any, Any, Any] | None:
        """Its task; None before it is loaded."""
        return None if self.runtime is None else self.runtime.task

    @property
    def running_s(self) -> float:
        """Seconds since the batch that runs began; 0 where none runs."""
        engine = None if self.runtime is None else self.runtime.session.engine
        return 0.0 if engine is None else engine.running_s

    @property
    def state(self) -> str:
        """One of "ready", "loading", "failed" and "hanging"."""
        if self.runtime is None:
            return "failed" if self.error else "loading"
        return "hanging" if self.running_s > self._hang_s else "ready"


class Models:
    """All models of a service, by name. The first is the default one."""

    def __init__(self, sources: Mapping[str, Source], measures: Measures, hang_s: float) -> None:
        """Take Runtimes, load what is given by a path, and leave the rest to load.

        Args:
            sources: What the models are, by name.
            measures: Gets their series.
            hang_s: As in Settings.

        Raises:
            ConfigError: There is none, or a name cannot be used.
            BertRtError: A path cannot be loaded.
        """
        if not sources:
            raise ConfigError("models: got none, want at least one")
        self._measures = measures
        self._models: dict[str, Model] = {}
        self._loaders: dict[str, Callable[[], Runtime]] = {}
        self._owned: list[Runtime] = []
        self._lock = threading.Lock()
        for name, source in sources.items():
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"models: got the name {name!r}, want letters, digits, '.', '_' and '-'"
                )
            model = self._models[name] = Model(name, hang_s)
            if isinstance(source, str | os.PathLike):
                self._owned.append(Runtime.load(source))
                model.open(self._owned[-1], measures)
            elif isinstance(source, Runtime):
                model.open(source, measures)
            else:
                self._loaders[name] = source

    def load(self) -> None:
        """Load what is not loaded yet, one model after the other; a failure is kept and logged."""
        with self._lock:
            loaders, self._loaders = self._loaders, {}
        for name, loader in loaders.items():
            model = self._models[name]
            try:
                runtime = loader()
            except Exception as error:
                _LOG.error("model %s: cannot be loaded: %s", name, error)
                model.error = str(error) or type(error).__name__
                continue
            self._owned.append(runtime)
            model.open(runtime, self._measures)
            _LOG.info("model %s: ready on %s", name, runtime.info.name)

    def close(self) -> None:
        """Close the Runtimes that were loaded here, and none that was handed over.

        An engine that still runs a batch some seconds later is left to the end of the process.
        """
        owned, self._owned = self._owned, []

        def close_all() -> None:
            for runtime in owned:
                runtime.close()

        closer = threading.Thread(target=close_all, name="bert-rt-closer", daemon=True)
        closer.start()
        closer.join(_CLOSE_S)

    def __iter__(self) -> Any:
        """Iterate over the models, in their order."""
        return iter(self._models.values())

    def get(self, name: str) -> Model:
        """Return the model of a name; raises HttpFailure 404 with the list."""
        model = self._models.get(name)
        if model is None:
            raise HttpFailure(
                404,
                "UnknownModelError",
                f"model: got {name[:100]!r}, want one of {', '.join(self._models)}",
            )
        return model

    def ready(self, name: str) -> Model:
        """Return the model of a name that answers; raises HttpFailure 404 or 503."""
        return self._check_ready(self.get(name))

    def find(self, name: str | None, accepts: Callable[[HttpForm], bool], what: str) -> Model:
        """Return the model that answers a request.

        Args:
            name: The model that the request names; None for the first one that is accepted.
            accepts: Whether a model of this form can answer.
            what: What is asked for, for messages, such as "/v1/answer".

        Returns:
            The model, loaded.

        Raises:
            HttpFailure: There is none (404), it is not for this (400), or it is not ready (503).
        """
        if name is not None:
            model = self.ready(name)
            if not accepts(model.form):
                task = model.task.name if model.task else ""
                raise HttpFailure(
                    400,
                    "InputError",
                    f"model: got {name!r}, which is for {task}; want one for {what}",
                )
            return model
        loading = None
        for model in self:
            if model.runtime is None:
                loading = loading or model
            elif accepts(model.form):
                return self._check_ready(model)
        if loading is not None:
            return self._check_ready(loading)
        names = ", ".join(f"{model.name} ({model.task.name})" for model in self)
        raise HttpFailure(
            404, "UnknownModelError", f"model: there is none for {what}; there are {names}"
        )

    def _check_ready(self, model: Model) -> Model:
        state = model.state
        if state != "ready":
            raise HttpFailure(
                503,
                "ModelNotReadyError",
                f"model: {model.name} is {state}, want one that is ready",
                {"Retry-After": "5"},
            )
        return model
