"""What an engine is, which engines there are, and which one is chosen.

An engine turns a PackedBatch into named arrays and knows nothing of text or tasks. It lives in a
module of its own under `bert_rt.engines`, which is imported only when it is asked for, and has

- `missing(artifact, options) -> str | None`: None where the engine can run here, else what lacks;
- `open_engine(artifact, options) -> Engine`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from bert_rt.artifact.artifact import Artifact
from bert_rt.errors import ArtifactFormatError, ConfigError, EngineUnavailableError
from bert_rt.types import Outputs, PackedBatch

__all__ = [
    "ENGINE_NAMES",
    "Engine",
    "EngineInfo",
    "EngineOptions",
    "check_output_names",
    "lacks_package",
    "missing",
    "open_engine",
]

# Best first: `auto` takes the first one that can run the artifact. The reference engine is the
# oracle of the tests and far too slow to be chosen.
_AUTO_ORDER = ("native", "onnxruntime", "openvino")
ENGINE_NAMES = ("native", "onnxruntime", "openvino", "torch", "reference")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is opened.

    Attributes:
        device: "cpu", "cuda" or an OpenVINO device name such as "GPU".
        num_threads: Threads that the engine may use; None for all that this process may run on.
        checkpoint: Checkpoint directory, which only the torch engine needs.
    """

    device: str = "cpu"
    num_threads: int | None = None
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an open engine says of itself.

    Attributes:
        name: One of ENGINE_NAMES.
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


def _module(name: str) -> ModuleType:
    if name not in ENGINE_NAMES:
        known = ", ".join(("auto", *ENGINE_NAMES))
        raise ConfigError(f"engine: unknown name {name!r}; known are {known}")
    return importlib.import_module(f"bert_rt.engines.{name}")


def missing(
    name: str, artifact: Artifact | None = None, options: EngineOptions | None = None
) -> str | None:
    """Say what an engine lacks here.

    Args:
        name: One of ENGINE_NAMES.
        artifact: Where given, the engine must also be able to run this artifact.
        options: Where given, the engine must also be able to run on this device.

    Returns:
        None where the engine can run, else one sentence saying what is missing.

    Raises:
        ConfigError: There is no engine of that name.
    """
    reason: str | None = _module(name).missing(artifact, options or EngineOptions())
    return reason


def lacks_package(package: str, minimum: tuple[int, ...], extra: str = "") -> str | None:
    """Say whether a library is missing or too old, without importing it.

    Args:
        package: Its name on the package index.
        minimum: The oldest release that runs the graphs of artifacts.
        extra: The extra of bert-rt that brings it, or "" for a core dependency.

    Returns:
        None where it is there and new enough, else one sentence.
    """
    wanted = ".".join(map(str, minimum))
    advice = f"pip install 'bert-rt[{extra}]'" if extra else f"pip install '{package}>={wanted}'"
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


def _is_slow(info: EngineInfo) -> bool:
    """Whether an engine has plain loops only here (another processor than x86, an old one)."""
    return info.isa == "scalar" and "BERT_RT_ISA" not in os.environ


def open_engine(name: str, artifact: Artifact, options: EngineOptions) -> Engine:
    """Open an engine by name, or the best one that can run here for "auto".

    Args:
        name: "auto" or one of ENGINE_NAMES.
        artifact: The verified artifact.
        options: Device, threads and what else the engine needs.

    Returns:
        An engine that is ready to run.

    Raises:
        ConfigError: There is no engine of that name.
        EngineUnavailableError: The engine named cannot run here; "auto" found none.
    """
    candidates = _AUTO_ORDER if name == "auto" else (name,)
    reasons = {}
    last_resort = None
    for candidate in candidates:
        reason = missing(candidate, artifact, options)
        if reason is None:
            engine: Engine = _module(candidate).open_engine(artifact, options)
            if name != "auto" or not _is_slow(engine.info):
                return engine
            last_resort = engine
            continue
        reasons[candidate] = reason
    if last_resort is not None:
        return last_resort
    if name != "auto":
        raise EngineUnavailableError(f"engine: {name!r} cannot run here: {reasons[name]}")
    told = "; ".join(f"{candidate}: {reason}" for candidate, reason in reasons.items())
    raise EngineUnavailableError(f"engine: none can run this artifact here ({told})")
