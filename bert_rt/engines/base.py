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
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bert_rt.artifact.artifact import Artifact
from bert_rt.errors import ArtifactFormatError
from bert_rt.model.head import HeadSpec
from bert_rt.types import Outputs, PackedBatch

__all__ = [
    "Engine",
    "EngineInfo",
    "EngineModule",
    "EngineOptions",
    "EngineSpec",
    "check_output_names",
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
    """

    name: str
    rank: int | None
    packages: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    extra: str = ""
    fork: Literal["survives", "reopens", "refused"]
    precisions: tuple[str, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is opened.

    Attributes:
        device: "cpu", "cuda" or an OpenVINO device name such as "GPU".
        num_threads: Threads that the engine may use; None for all that this process may run on.
        checkpoint: Checkpoint directory, which only the torch engine needs.
        head: What the checkpoint has behind its encoder, which only the torch engine needs.
    """

    device: str = "cpu"
    num_threads: int | None = None
    checkpoint: str | None = None
    head: HeadSpec | None = None


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


def check_output_names(wanted: Mapping[str, str], got: Collection[str]) -> None:
    """Compare the outputs of a graph with those that its manifest names.

    Args:
        wanted: Names, and kinds, of the manifest's outputs.
        got: Names of the graph's outputs.

    Raises:
        ArtifactFormatError: The graph has no output of a name.
    """
    absent = [name for name in wanted if name not in got]
    if absent:
        raise ArtifactFormatError(
            f"model.onnx: got the outputs {sorted(got)}, want those that the manifest names, "
            f"{sorted(wanted)}"
        )
