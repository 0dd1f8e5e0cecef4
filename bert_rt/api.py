"""The whole path in one view: an artifact is loaded, and inputs become results.

load:      directory -> Artifact -> open
open:      Artifact -> engine -> scheduler -> session -> self-test
answer:    texts -> tokens -> windows -> batches -> logits -> Answer
classify:  texts -> tokens -> sequences -> batches -> logits -> Classification
translate: texts -> sentences -> tokens -> batches -> searches over logits -> TranslatedText

What happens between the arrows is in bert_rt.tasks, one room a task; its methods of Runtime, too.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Mapping
from typing import Any, Self

from bert_rt.artifact.artifact import (
    TOKENIZER_NAME,
    Artifact,
    default_artifact_path,
    load_artifact,
)
from bert_rt.artifact.manifest import FileEntry, Manifest
from bert_rt.engines.base import Engine, EngineInfo, EngineOptions
from bert_rt.engines.forking import ForkSafeEngine
from bert_rt.engines.registry import AUTO, Choice, choose, open_engine
from bert_rt.engines.watching import WatchedEngine
from bert_rt.errors import ArtifactError, ArtifactFormatError, ConfigError
from bert_rt.model.config import BertConfig
from bert_rt.scheduling.scheduler import Scheduler
from bert_rt.support.background import Background, LowPriorityThread
from bert_rt.tasks.base import Limits, Task
from bert_rt.tasks.methods import TaskMethods
from bert_rt.tasks.registry import task_of_artifact
from bert_rt.tasks.selftest import run_self_test
from bert_rt.tasks.session import Session
from bert_rt.text.tokenization import Tokenizer

__all__ = ["Runtime", "open_session"]

_LOG = logging.getLogger(__name__)

# Larger batches are no faster on a CPU, and a question that arrives waits for the one that runs.
_MAX_BATCH_TOKENS = 4096
# Minutes of work for a CPU: bursts wait, but a backlog that only grows is refused.
_MAX_QUEUE_TOKENS = 2**21
_MAX_CACHE_MB = 2**20


class Runtime(TaskMethods):
    """Answers questions over passages, or classifies texts, as its artifact was made to do.

    Thread-safe: make one and share it. A forked process may go on using it on native and
    onnxruntime; on openvino and torch it gets an error that asks for spawn. Pickled (for a pool of
    processes) and copied it is a path and options, from which it is loaded there.

    Attributes:
        info: The engine: name, precision, device, threads, and a notice for the user or "".
        manifest: What the artifact says of itself.
        limits: The task's limits: how passages are cut into windows, say.
        session: The path from inputs to results, for tools that need more than results.
        task: The artifact's task.
    """

    def __init__(
        self,
        session: Session,
        info: EngineInfo,
        manifest: Manifest,
        task: Task[Any, Any, Any],
        limits: Limits,
    ) -> None:
        """Hold the parts that Runtime.open makes."""
        self.session = session
        self.info = info
        self.manifest = manifest
        self.task = task
        self.limits = limits
        self._loaded_with: dict[str, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to load this Runtime in another process, or once more in this one.

        Returns:
            What pickle and copy want: the artifact's path and the arguments of load, but no weight.

        Raises:
            ConfigError: It was not made by load, so that there is no path.
        """
        if self._loaded_with is None:
            raise ConfigError(
                "Runtime: cannot be pickled or copied, since it was not loaded from a path; "
                "use Runtime.load(path)"
            )
        return _load_again, (self._loaded_with, self.manifest.files)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        engine: str = "auto",
        device: str = "cpu",
        num_threads: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        config: Limits | None = None,
        max_queue_tokens: int = _MAX_QUEUE_TOKENS,
        max_batch_ms: float | None = None,
        max_context_cache_mb: int | None = None,
        engine_nice: int = 0,
    ) -> Self:
        """Load an artifact, verify it and run its self-test on the engine.

        Args:
            path: The artifact directory; None for the embedded default model.
            engine: As in open, like all that follow.
            device: "cpu", "cuda" or an OpenVINO device name.
            num_threads: Threads of the engine.
            checkpoint: The checkpoint directory, for the torch engine.
            config: Other limits than the manifest's.
            max_queue_tokens: Most tokens that may wait.
            max_batch_ms: Most milliseconds of a batch.
            max_context_cache_mb: Most megabytes of passages.
            engine_nice: How far the threads that compute give way to others of the process.

        Returns:
            A Runtime that is ready to answer.

        Raises:
            ArtifactError: The artifact cannot be used.
            ConfigError: A value is unknown or out of range.
            EngineError: The engine cannot run here or fails the self-test.
        """
        options: dict[str, Any] = {
            "engine": engine,
            "device": device,
            "num_threads": num_threads,
            "checkpoint": _absolute(checkpoint),
            "config": config,
            "max_queue_tokens": max_queue_tokens,
            "max_batch_ms": max_batch_ms,
            "max_context_cache_mb": max_context_cache_mb,
            "engine_nice": engine_nice,
        }
        artifact = load_artifact(default_artifact_path() if path is None else path)
        runtime = cls.open(artifact, **options)
        runtime._loaded_with = {"path": _absolute(path), **options}
        return runtime

    @classmethod
    def open(
        cls,
        artifact: Artifact,
        *,
        engine: str = "auto",
        device: str = "cpu",
        num_threads: int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        config: Limits | None = None,
        max_queue_tokens: int = _MAX_QUEUE_TOKENS,
        max_batch_ms: float | None = None,
        max_context_cache_mb: int | None = None,
        engine_nice: int = 0,
    ) -> Self:
        """Open an artifact that is in memory already and run its self-test on the engine.

        Args:
            artifact: What load_artifact or build_artifact gave; nothing is hashed again.
            engine: "auto" for the quickest that can run it here, or one of
                bert_rt.engines.registry.engine_names().
            device: "cpu", "cuda" or an OpenVINO device name.
            num_threads: Threads of the engine; None for the cores that this process may use.
            checkpoint: The checkpoint directory, for the torch engine.
            config: Other limits than the manifest's.
            max_queue_tokens: Most tokens that may wait before a request is refused.
            max_batch_ms: Most milliseconds of a batch, as measured; None: only 4,096 tokens.
            max_context_cache_mb: Most megabytes of what split layers made of passages, kept for
                further questions on them by the native engine; 0 for none, None for 64.
            engine_nice: What is added to the nice value of the threads that compute, 0 to 19, for
                an event loop on the same cores; 0: the caller's own thread computes. Linux only.

        Returns:
            A Runtime that is ready to answer.

        Raises:
            ArtifactError: The artifact is not what its task wants.
            ConfigError: A value is unknown or out of range.
            EngineError: The engine cannot run here or fails the self-test.
        """
        _check_max_batch_ms(max_batch_ms)
        manifest, task = artifact.manifest, _task_of(artifact)
        limits = config or task.read_limits(manifest)
        _check_length(limits, manifest.architecture)
        task.check_limits(limits, manifest.architecture)
        options = EngineOptions(
            device, num_threads, _absolute(checkpoint), task.head_spec, max_context_cache_mb
        )
        opened, info, tokenizers = _open_at(engine_nice, engine, artifact, options)
        session = open_session(
            opened,
            tokenizers[0],
            manifest.architecture,
            target_tokenizer=tokenizers[-1],
            max_queue_tokens=max_queue_tokens,
            max_batch_ms=max_batch_ms,
            engine_nice=engine_nice,
        )
        _test(session, task, manifest, info)
        return cls(session, info, manifest, task, limits)

    def close(self) -> None:
        """Free the engine once the batch that runs is done. Calling it twice is harmless."""
        self.session.close()

    def __enter__(self) -> Self:
        """Return the Runtime itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()


def open_session(
    engine: Engine,
    tokenizer: Tokenizer,
    architecture: BertConfig,
    *,
    target_tokenizer: Tokenizer | None = None,
    max_queue_tokens: int = _MAX_QUEUE_TOKENS,
    max_batch_ms: float | None = None,
    engine_nice: int = 0,
) -> Session:
    """Put an engine behind a scheduler.

    Args:
        engine: The open engine.
        tokenizer: The model's.
        architecture: The model's, which tells its longest sequence and its token types.
        target_tokenizer: That of the texts that the model writes; None for the same one.
        max_queue_tokens: As in Runtime.open.
        max_batch_ms: As in Runtime.open.
        engine_nice: As in Runtime.open.

    Returns:
        A session, which owns the engine.
    """
    watched = WatchedEngine(engine)
    scheduler = Scheduler(
        watched,
        max_batch_tokens=max(_MAX_BATCH_TOKENS, architecture.max_sequence_length),
        max_queue_tokens=max_queue_tokens,
        max_batch_ms=max_batch_ms,
        engine_nice=engine_nice,
    )
    return Session(
        tokenizer,
        scheduler,
        num_token_types=architecture.num_token_types,
        passage_position_offset=architecture.passage_position_offset,
        engine=watched,
        target_tokenizer=target_tokenizer,
    )


def _open_at(
    nice: int, engine: str, artifact: Artifact, options: EngineOptions
) -> tuple[ForkSafeEngine, EngineInfo, list[Tokenizer]]:
    """Do as _open_chosen does, in a thread whose priority the engine's own threads inherit."""
    if isinstance(nice, bool) or not isinstance(nice, int) or not 0 <= nice <= 19:
        raise ConfigError(f"engine_nice: got {nice!r}, want an integer from 0 to 19")
    if not nice:
        return _open_chosen(engine, artifact, options)
    thread = LowPriorityThread(nice)
    try:
        return thread.call(_open_chosen, engine, artifact, options)
    finally:
        thread.close()


def _open_chosen(
    engine: str, artifact: Artifact, options: EngineOptions
) -> tuple[ForkSafeEngine, EngineInfo, list[Tokenizer]]:
    """Open the engine of a name, or the one that "auto" takes, and read the tokenizers."""
    choice = choose(artifact, options) if engine == AUTO else None
    name = engine if choice is None else choice.name
    _check_context_cache(options.max_context_cache_mb, artifact.manifest, name)
    opened, tokenizers = _open_both(name, artifact, options)
    return opened, opened.info if choice is None else _explain(choice, opened.info), tokenizers


def _open_both(
    engine: str, artifact: Artifact, options: EngineOptions
) -> tuple[ForkSafeEngine, list[Tokenizer]]:
    """Open the engine and read the tokenizers meanwhile, for which an engine leaves time."""
    decoder = artifact.manifest.decoder
    files = dict.fromkeys([TOKENIZER_NAME, *([decoder.tokenizer] if decoder else [])])
    tokenizing = Background(lambda: [Tokenizer.from_bytes(artifact.read(name)) for name in files])
    try:
        opened = ForkSafeEngine(lambda: open_engine(engine, artifact, options))
    finally:
        tokenizing.wait()
    for entry in artifact.manifest.models.values():
        artifact.release(entry.file)
    try:
        return opened, tokenizing.result()
    except BaseException:
        opened.close()
        raise


def _test(
    session: Session, task: Task[Any, Any, Any], manifest: Manifest, info: EngineInfo
) -> None:
    """Run the self-test; a session that fails it is closed."""
    try:
        run_self_test(session, task, manifest, info)
    except BaseException:
        session.close()
        raise


def _task_of(artifact: Artifact) -> Task[Any, Any, Any]:
    """Return an artifact's task, by which its manifest was checked."""
    try:
        task = task_of_artifact(artifact.manifest.task)
        task.check_manifest(artifact.manifest)
    except ArtifactFormatError as error:
        if artifact.path is None:
            raise
        raise ArtifactFormatError(f"{artifact.path}: {error}") from None
    return task


def _check_context_cache(value: int | None, manifest: Manifest, engine: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_CACHE_MB:
        raise ConfigError(
            f"max_context_cache_mb: got {value!r}, want an integer from 0 to {_MAX_CACHE_MB}"
        )
    if value and not manifest.architecture.num_split_layers:
        raise ConfigError(
            f"max_context_cache_mb: got {value}, but the artifact has no split layers, so that "
            "nothing of a passage can be kept; want 0"
        )
    if value and engine != "native":
        raise ConfigError(
            f"max_context_cache_mb: got {value}, but the engine {engine} keeps no passages, only "
            "native does; want 0"
        )


def _check_length(limits: Limits, architecture: BertConfig) -> None:
    longest = architecture.max_sequence_length
    if limits.max_seq_length > longest:
        raise ConfigError(
            f"config.max_seq_length: got {limits.max_seq_length}, want at most the model's "
            f"longest sequence ({longest})"
        )


def _check_max_batch_ms(value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < math.inf):  # type: ignore[operator]
        raise ConfigError(f"max_batch_ms: got {value!r}, want a number above 0, or None")


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    """Make a path hold in processes with another working directory."""
    return None if path is None else os.path.abspath(path)


def _load_again(loaded_with: dict[str, Any], files: Mapping[str, FileEntry]) -> Runtime:
    """Load what a pickle names; it must be the artifact that was pickled, byte by byte."""
    runtime = Runtime.load(**loaded_with)
    if runtime.manifest.files != files:
        runtime.close()
        raise ArtifactError(
            f"{loaded_with['path'] or 'the embedded model'}: holds another artifact than the "
            "Runtime that was pickled; load the new one and pickle that"
        )
    return runtime


def _explain(choice: Choice, info: EngineInfo) -> EngineInfo:
    """Say why "auto" did not take the engine that is usually best: it is worth a line."""
    for name, reason in choice.passed_over.items():
        info = dataclasses.replace(info, notice=f"{info.name} answers, not {name}: {reason}")
        _LOG.warning(info.notice)
        break
    return info
