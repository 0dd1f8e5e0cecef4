"""What an engine is.

An engine turns a PackedBatch into named arrays and knows nothing of text or tasks. It lives in a
module of its own, which imports its library only where it is used, and has

- `SPEC`: what can be said of the engine without opening it;
- `missing(artifact, options) -> str | None`: None where the engine can run here, else why not;
- `open_engine(artifact, options) -> Engine`.

One line in bert_rt.engines.registry makes it known to `auto`, to the commands and to the compiler.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from bert_rt.artifact.artifact import Artifact
from bert_rt.errors import ArtifactFormatError, ConfigError
from bert_rt.model.head import HeadSpec
from bert_rt.types import FloatArray, IntArray, Outputs, PackedBatch, TokenSequence

__all__ = [
    "Engine",
    "EngineInfo",
    "EngineModule",
    "EngineOptions",
    "EngineSpec",
    "KeepingEngine",
    "Run",
    "SteppingEngine",
    "begin_run",
    "check_output_names",
    "keeping",
    "missing_package",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What is known of an engine before it is opened.

    Attributes:
        name: What `--engine` and Runtime.load call it.
        rank: Its place in "auto", the least first, where bert_rt.engines.measured says nothing
            else of this class of CPU; None for an engine that is never chosen.
        packages: Name of a package that it needs to the oldest release; () for any release.
        extra: The extra of bert-rt that brings them; "" where they come with bert-rt itself.
        fork: What becomes of it in a forked process: it goes on ("survives"), is opened anew
            ("reopens") or cannot be used there ("refused"); see bert_rt.engines.forking.
        precisions: Precisions of the artifacts that it can run.
        devices: Kinds of devices that it can run on, as a user writes them.
        generates: Whether it runs artifacts with a decoder (bert_rt.engines.seq2seq).
    """

    name: str
    rank: int | None
    packages: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    extra: str = ""
    fork: Literal["survives", "reopens", "refused"]
    precisions: tuple[str, ...]
    devices: tuple[str, ...]
    generates: bool = False


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is opened.

    Attributes:
        device: "cpu", "cuda" or an OpenVINO device name such as "GPU".
        num_threads: Threads that the engine may use; None for all that this process may run on.
        checkpoint: Checkpoint directory, which only the torch engine needs.
        head: What the checkpoint has behind its encoder, which only the torch engine needs.
        max_context_cache_mb: Most megabytes of what split layers made of passages, which only the
            native engine keeps; None for its default.
    """

    device: str = "cpu"
    num_threads: int | None = None
    checkpoint: str | None = None
    head: HeadSpec | None = None
    max_context_cache_mb: int | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an open engine says of itself.

    Attributes:
        name: That of its EngineSpec.
        version: Version of the library behind it.
        device: The device it runs on.
        precision: "int8" or "float32".
        num_threads: Threads in use.
        is_packed: True where the engine computes without padding; False where sequences of a
            batch are padded to the longest, so that batches should be of like lengths.
        isa: Instruction set of the kernels, where the engine tells it.
        notice: What a user should know about this choice (a fallback, a slow path), or "".
    """

    name: str
    version: str
    device: str
    precision: str
    num_threads: int
    is_packed: bool
    isa: str = ""
    notice: str = ""


class Engine(Protocol):
    """Runs packed batches, one at a time: an engine need not be thread-safe."""

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        ...

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind: PER_TOKEN or PER_SEQUENCE."""
        ...

    def run(self, batch: PackedBatch) -> Outputs:
        """Compute the model's outputs for every token (or sequence) of the batch.

        Args:
            batch: Sequences without padding; every length is at most the model's
                max_sequence_length. Logits outside its logit_ranges need not be computed.

        Returns:
            The outputs by name, float32: of shape (T, ...) per token, 0 where not computed, and
            (B, ...) per sequence.

        Raises:
            EngineInternalError: The library underneath failed.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. Calling it twice is harmless."""
        ...


@runtime_checkable
class KeepingEngine(Protocol):
    """An engine that keeps what split layers made of passages."""

    def prepare(self, passages: Sequence[IntArray]) -> None:
        """Compute it ahead, and keep it as far as there is room.

        Args:
            passages: Tokens of windows behind the question, each of shape (T,), int32.

        Raises:
            ConfigError: The model has no split layers.
            EngineInternalError: The library underneath failed.
        """
        ...

    def prepared_states(self, passages: Sequence[IntArray]) -> FloatArray:
        """Do as prepare does, and return the states behind the split layers.

        Args:
            passages: As in prepare.

        Returns:
            States of shape (total of all T, D), float32, which keep takes.

        Raises:
            ConfigError: As in prepare, like EngineInternalError.
        """
        ...

    def keep(self, passages: Sequence[IntArray], states: FloatArray) -> None:
        """Keep what prepared_states returned, as far as there is room.

        Args:
            passages: As in prepare.
            states: Of shape (total of all T, D), float32.

        Raises:
            ConfigError: As in prepare, like EngineInternalError.
        """
        ...

    def context_bytes(self, num_tokens: int) -> int:
        """Return the bytes that a window with so many tokens behind the question takes."""
        ...

    def context_cache(self) -> Mapping[str, int]:
        """Return num_contexts, num_bytes, max_bytes, num_hits and num_misses."""
        ...

    def forget(self) -> None:
        """Let go of all that is kept."""
        ...


def keeping(engine: Engine) -> KeepingEngine:
    """Return an engine as one that keeps passages; a ConfigError where it is none."""
    if isinstance(engine, KeepingEngine):
        return engine
    raise ConfigError(
        f"engine: got {engine.info.name!r}, which keeps no passages; want 'native' and an INT8 "
        "artifact with split layers"
    )


class Run(Protocol):
    """Sequences that are computed step by step; others join them meanwhile, or leave.

    Sequences have numbers in the order in which they have joined, from 0 on.
    """

    @property
    def num_free(self) -> int:
        """How many more sequences should join now; 0 where they would only wait."""
        ...

    def join(self, sequences: Sequence[TokenSequence]) -> None:
        """Take more sequences; those for which there is no place wait for one."""
        ...

    def leave(self, numbers: Collection[int]) -> None:
        """Do not compute sequences any more; harmless for those that are done."""
        ...

    def step(self) -> Mapping[int, Outputs]:
        """Take one step.

        Returns:
            By number the outputs of the sequences that are done now, as Engine.run has them for
            each; empty once all are done.

        Raises:
            EngineInternalError: The library underneath failed; the run cannot go on.
        """
        ...


@runtime_checkable
class SteppingEngine(Protocol):
    """An engine that may compute batches step by step."""

    def begin(self) -> Run | None:
        """Begin a run without any sequence; one at a time is used.

        Returns:
            The run; None where the engine behind it computes whole batches only.
        """
        ...


def begin_run(engine: Engine) -> Run | None:
    """Begin a run where the engine has such; None where it computes whole batches only."""
    return engine.begin() if isinstance(engine, SteppingEngine) else None


class EngineModule(Protocol):
    """What the module of an engine has."""

    @property
    def SPEC(self) -> EngineSpec:
        """What is known of the engine before it is opened."""
        ...

    def missing(self, artifact: Artifact | None, options: EngineOptions) -> str | None:
        """Say why the engine cannot run here.

        Args:
            artifact: Where given, the engine must also be able to run this artifact.
            options: The device, and what else the engine needs.

        Returns:
            None where it can run, else one sentence.
        """
        ...

    def open_engine(self, artifact: Artifact, options: EngineOptions) -> Engine:
        """Open the engine.

        Args:
            artifact: The verified artifact.
            options: Device, threads and what else the engine needs.

        Returns:
            An engine that is ready to run.

        Raises:
            EngineUnavailableError: It cannot run here.
        """
        ...


def missing_package(package: str, minimum: tuple[int, ...], extra: str = "") -> str | None:
    """Say whether a library is missing or too old, without importing it.

    Args:
        package: Its name on the package index.
        minimum: The oldest release that runs the graphs of artifacts.
        extra: The extra of bert-rt that brings it, or "" for a core dependency.

    Returns:
        None where it is there and new enough, else one sentence.
    """
    # With a parser of e-mail, for which a first answer should not wait.
    import importlib.metadata
    import importlib.util

    wanted = ".".join(map(str, minimum))
    at_least = f">={wanted}" if wanted else ""
    advice = f"pip install 'bert-rt[{extra}]'" if extra else f"pip install '{package}{at_least}'"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # A build under another name (onnxruntime-gpu) is not ours to judge.
        if importlib.util.find_spec(package) is not None:
            return None
        return f"the package {package} is not installed ({advice})."
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[: len(minimum)])
    if numbers >= minimum:
        return None
    return f"the package {package} is {version}, want at least {wanted} ({advice})."


def check_output_names(
    wanted: Mapping[str, str], got: Collection[str], *, file: str = "model.onnx"
) -> None:
    """Compare the outputs of a graph with those that its manifest names.

    Args:
        wanted: Names, and kinds, of the manifest's outputs.
        got: Names of the graph's outputs.
        file: The graph's, for the message.

    Raises:
        ArtifactFormatError: The graph has no output of a name.
    """
    absent = [name for name in wanted if name not in got]
    if absent:
        raise ArtifactFormatError(
            f"{file}: got the outputs {sorted(got)}, want those that the manifest names, "
            f"{sorted(wanted)}"
        )
