"""The HTTP service on Ray Serve: one deployment a model, each replica with an engine of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import default_artifact_path, load_artifact
from bert_rt.errors import ConfigError, EngineInternalError
from bert_rt.ray.scaling import QUEUE_TOKENS, QueueTokens
from bert_rt.tasks.registry import task_of_artifact

__all__ = ["app"]


_MAY_BE_NONE = ("artifact", "checkpoint")


@dataclass(frozen=True, kw_only=True)
class _Arguments:
    """What `args` of an application may hold."""

    name: str = "default"
    artifact: str | None = None
    engine: str = "auto"
    device: str = "cpu"
    num_threads: int = 1
    checkpoint: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    max_batch_ms: float = 200.0
    max_context_cache_mb: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    min_replicas: int = 1
    max_replicas: int = 1
    target_queue_tokens: float = 2048
    max_ongoing_requests: int = 256
    max_queued_requests: int = 256

    def load(self) -> Runtime:
        """Load the model; raises BertRtError."""
        artifact = load_artifact(self.artifact or default_artifact_path())
        config: Any = None
        if self.limits:
            task = task_of_artifact(artifact.manifest.task)
            config = task.make_limits(dict(self.limits), task.read_limits(artifact.manifest))
        return Runtime.open(
            artifact,
            engine=self.engine,
            device=self.device,
            num_threads=self.num_threads,
            checkpoint=self.checkpoint,
            config=config,
            max_batch_ms=self.max_batch_ms,
            max_context_cache_mb=self.max_context_cache_mb,
        )


class _Replica:
    """A model with the service's ASGI application before it, in a process of Ray's."""

    def __init__(self, arguments: _Arguments) -> None:
        from bert_rt.serving import app as make_application

        # Here and now: the replica gets no request before the model answers.
        self._runtime = arguments.load()
        models = {arguments.name: lambda: self._runtime}
        self._application = make_application(models, _settings(arguments.settings))
        self._application.service.models.load()

    def __serve_build_asgi_app__(self) -> Any:
        return self._application

    def check_health(self) -> None:
        """Let Ray replace a replica whose engine hangs."""
        for name, state in self._application.service.states.items():
            if state != "ready":
                raise EngineInternalError(f"model {name}: is {state}, want ready")

    def record_autoscaling_stats(self) -> dict[str, float]:
        return {QUEUE_TOKENS: float(self._runtime.session.stats.num_tokens)}


def app(args: Mapping[str, Any]) -> Any:
    """Make an application of Ray Serve of one model: `import_path: bert_rt.ray:app`.

    Every replica is a process with an engine of its own and the application of bert_rt.serving in
    it, so its routes, limits, errors and figures are those of `bert-rt serve`.

    Args:
        args: name (of model and deployment), artifact (a path that every machine can read; None
            for the embedded model), engine, device, num_threads (which is num_cpus of a replica),
            checkpoint, max_batch_ms and max_context_cache_mb as in Runtime.load; limits (fields of
            the task's); settings (fields of serving.Settings); min_replicas, max_replicas, and
            target_queue_tokens, at which of them replicas are added; max_ongoing_requests of a
            replica and max_queued_requests of a proxy, beyond which it answers 429.

    Returns:
        An Application of Ray Serve. `deployments` of the configuration file overrides what is
        set here.

    Raises:
        ConfigError: A field is unknown or out of range.
        ArtifactError: The artifact cannot be used.
    """
    from ray import serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, BackpressureConfig

    arguments = _parse(args)
    deployment: Any = serve.deployment(
        name=arguments.name,
        ray_actor_options={"num_cpus": arguments.num_threads},
        max_ongoing_requests=arguments.max_ongoing_requests,
        max_queued_requests=arguments.max_queued_requests,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        autoscaling_config=AutoscalingConfig(
            min_replicas=arguments.min_replicas,
            max_replicas=arguments.max_replicas,
            initial_replicas=arguments.min_replicas,
            policy=AutoscalingPolicy(
                policy_function=f"{QueueTokens.__module__}:{QueueTokens.__name__}",
                policy_kwargs={"target_queue_tokens": arguments.target_queue_tokens},
            ),
        ),
    )
    replica: Any = serve.ingress()(_Replica)
    return deployment(replica).bind(arguments)


def _parse(args: Mapping[str, Any]) -> _Arguments:
    """Check what can be checked before a replica starts."""
    known = {field.name for field in dataclasses.fields(_Arguments)}
    for name in args:
        if name not in known:
            raise ConfigError(f"args: got {name!r}, want one of {', '.join(sorted(known))}")
    arguments = _Arguments(**args)
    _check_types(arguments)
    for name in ("num_threads", "min_replicas", "max_replicas", "max_ongoing_requests"):
        value = getattr(arguments, name)
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name}: got {value!r}, want an integer of at least 1")
    if arguments.min_replicas > arguments.max_replicas:
        raise ConfigError(
            f"min_replicas: got {arguments.min_replicas}, want at most max_replicas "
            f"({arguments.max_replicas})"
        )
    value = arguments.max_queued_requests
    if type(value) is not int or value < -1:
        raise ConfigError(f"max_queued_requests: got {value!r}, want an integer, or -1 for any")
    try:
        QueueTokens(arguments.target_queue_tokens)
    except (TypeError, ValueError):
        got = arguments.target_queue_tokens
        raise ConfigError(f"target_queue_tokens: got {got!r}, want a number above 0") from None
    _settings(arguments.settings)
    return arguments


def _check_types(arguments: _Arguments) -> None:
    for name in ("name", "artifact", "engine", "device", "checkpoint"):
        value = getattr(arguments, name)
        if not isinstance(value, str) and (value is not None or name not in _MAY_BE_NONE):
            raise ConfigError(f"{name}: got {value!r}, want a text")
    for name in ("limits", "settings"):
        value = getattr(arguments, name)
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name}: got {value!r}, want fields by name")
    value = arguments.max_batch_ms
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"max_batch_ms: got {value!r}, want a number above 0")
    megabytes = arguments.max_context_cache_mb
    if megabytes is not None and (type(megabytes) is not int or megabytes < 0):
        raise ConfigError(
            f"max_context_cache_mb: got {megabytes!r}, want an integer of at least 0, or none"
        )


def _settings(given: Mapping[str, Any]) -> Any:
    from bert_rt.serving import Settings

    known = {field.name for field in dataclasses.fields(Settings)}
    for name in given:
        if name not in known:
            raise ConfigError(f"settings: got {name!r}, want one of {', '.join(sorted(known))}")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return Settings(**values)
