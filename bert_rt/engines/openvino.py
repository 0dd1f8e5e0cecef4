"""The OpenVINO engine: runs an artifact's graph on the CPU or another device of OpenVINO."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import (
    Engine,
    EngineInfo,
    EngineOptions,
    EngineSpec,
    check_output_names,
    missing_package,
)
from bert_rt.engines.cpu_info import cpu_info, has_exact_int8
from bert_rt.engines.forking import lost_in_fork, note_use
from bert_rt.engines.packing import pad, unpad_outputs
from bert_rt.engines.seq2seq.base import Seq2SeqEngine
from bert_rt.engines.seq2seq.graphs import GraphSeq2Seq, RunGraph, check_graphs
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.types import Outputs, PackedBatch

__all__ = ["SPEC", "OpenVinoEngine", "missing", "open_engine", "open_seq2seq"]

SPEC = EngineSpec(
    name="openvino",
    rank=30,
    # Seen: 2026.0 cannot read the graph, and 2026.2 reads it and gives other answers.
    packages={"openvino": (2026, 3)},
    extra="openvino",
    fork="refused",
    precisions=("int8", "float32"),
    devices=("cpu", "GPU", "NPU", "AUTO"),
    generates=True,
)

_TELEMETRY = "openvino_telemetry"
# Kernels that are kept, some for each shape of a batch. Nearly every batch has a shape of its own,
# and the defaults (5000 in the CPU plugin, 1024 in oneDNN below it) let memory grow by 1.3 MiB with
# each of them.
_CACHE_CAPACITY = 128
_ONEDNN_CACHE_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what is missing for this engine.

    Args:
        artifact: Any artifact can be run.
        options: The device: "cpu", or any name that OpenVINO takes ("GPU.0", "AUTO:GPU,CPU").

    Returns:
        None where the engine can run, else one sentence.
    """
    reason = missing_package(SPEC.name, SPEC.packages[SPEC.name], SPEC.extra) or lost_in_fork(
        SPEC.name
    )
    if reason is not None:
        return reason
    # It frees memory that it has from elsewhere, which ends the process (2026.4, jemalloc 5.3).
    preloaded = os.environ.get("LD_PRELOAD", "")
    if "malloc" in preloaded:
        return f"LD_PRELOAD: got {preloaded!r}, and OpenVINO cannot run with another allocator."
    device = _device_name(options.device)
    if device == "CPU":
        return None
    note_use(SPEC.name)
    available: list[str] = _core().available_devices
    # "GPU.0" and "GPU" are both good names for a device that is listed under either; composed
    # ones ("AUTO:GPU,CPU") are OpenVINO's to judge when the model is compiled.
    known = {part for name in available for part in (name, name.partition(".")[0])}
    if ":" not in device and device not in (*known, "AUTO"):
        return f"device: got {options.device!r}, want one that OpenVINO finds here: {available}."
    return None


def open_engine(artifact: Artifact, options: EngineOptions) -> Engine:
    """Compile the artifact's model.onnx for a device.

    Args:
        artifact: The verified artifact.
        options: Device and threads (threads count for CPU only).

    Returns:
        The engine, ready to run.

    Raises:
        ConfigError: num_threads is out of range.
        EngineUnavailableError: Something is missing, or the device does not start.
        EngineInternalError: OpenVINO refuses the model.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'openvino' cannot run here: {reason}")
    num_threads = resolve_num_threads(options.num_threads)
    compiled = _compile(artifact, artifact.manifest.model.file, options, num_threads)
    return OpenVinoEngine(compiled, artifact, options.device, num_threads)


def open_seq2seq(artifact: Artifact, options: EngineOptions) -> Seq2SeqEngine:
    """Compile both graphs of an artifact with a decoder; errors as in open_engine."""
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'openvino' cannot run here: {reason}")
    num_threads = resolve_num_threads(options.num_threads)
    models = [
        _compile(artifact, artifact.manifest.graph(name).file, options, num_threads)
        for name in ("encoder", "decoder")
    ]
    names = [[output.any_name for output in model.outputs] for model in models]
    inputs = {
        value.any_name: [size.get_length() if size.is_static else None for size in sizes]
        for value in models[1].inputs
        if (sizes := value.partial_shape).rank.is_static
    }
    check_graphs(artifact, inputs, *names)
    encode, step = (_runner(model, outputs) for model, outputs in zip(models, names, strict=True))
    info = _info(artifact, options.device, num_threads)
    return GraphSeq2Seq(encode, step, artifact, info)


def _runner(model: Any, outputs: Sequence[str]) -> RunGraph:
    request = model.create_infer_request()

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            # The outputs are copied: a step's are the next one's inputs.
            results = request.infer(dict(feeds), share_inputs=True, share_outputs=False)
            return {name: results[name] for name in outputs}
        except Exception as error:  # RuntimeError by documentation, others by experience.
            raise EngineInternalError(f"openvino failed on a batch: {_short(error)}") from error

    return run


def _compile(artifact: Artifact, file: str, options: EngineOptions, num_threads: int) -> Any:
    """Compile a graph; raises EngineUnavailableError and EngineInternalError."""
    device = _device_name(options.device)
    settings = _settings(device, num_threads)
    note_use(SPEC.name)
    core = _core()
    try:
        model = core.read_model(artifact.read(file))
    except Exception as error:  # RuntimeError by documentation, others by experience.
        raise EngineInternalError(f"openvino cannot read {file}: {_short(error)}") from error
    try:
        with _small_onednn_cache():
            return core.compile_model(model, device, settings)
    except Exception as error:
        if device != "CPU":
            raise EngineUnavailableError(
                f"device: got {options.device!r}, which OpenVINO cannot use: {_short(error)} "
                f"(it finds {core.available_devices})"
            ) from error
        raise EngineInternalError(f"openvino cannot compile {file}: {_short(error)}") from error


def _info(artifact: Artifact, device: str, num_threads: int) -> EngineInfo:
    return EngineInfo(
        name=SPEC.name,
        # "2026.4.1-22982-e213a14-releases/2026/4": the build number tells nobody anything.
        version=str(_library().__version__).partition("-")[0],
        device=device,
        precision=artifact.manifest.precision,
        num_threads=num_threads,
        is_packed=False,
    )


class OpenVinoEngine:
    """Runs batches through OpenVINO, padded to the longest sequence."""

    def __init__(self, compiled: Any, artifact: Artifact, device: str, num_threads: int) -> None:
        """Take over a compiled model.

        Args:
            compiled: The artifact's model as openvino.CompiledModel.
            artifact: Tells the precision, the outputs and the padding token.
            device: The device as the caller named it.
            num_threads: Threads in use on CPU.

        Raises:
            ArtifactFormatError: The graph has no such outputs.
        """
        manifest = artifact.manifest
        self._outputs = dict(manifest.outputs)
        names = [name for output in compiled.outputs for name in output.names]
        check_output_names(self._outputs, names)
        self._pad_id = manifest.architecture.pad_token_id
        self._request: Any = compiled.create_infer_request()
        self._info = _info(artifact, device, num_threads)

    @property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        return self._info

    @property
    def outputs(self) -> Mapping[str, str]:
        """Names of what run returns, and their kind."""
        return self._outputs

    def run(self, batch: PackedBatch) -> Outputs:
        """Compute the outputs of every token (or sequence) of the batch.

        Args:
            batch: Sequences without padding.

        Returns:
            The outputs by name, float32: of shape (T, ...) per token, (B, ...) per sequence.

        Raises:
            EngineInternalError: OpenVINO failed, or the engine is closed.
            ArtifactFormatError: As in unpad_outputs.
        """
        if self._request is None:
            raise EngineInternalError("openvino: the engine is closed")
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = dict(zip(names, pad(batch, self._pad_id), strict=True))
        try:
            # Shared: without a copy in and out. Nobody else sees the inputs, and the outputs are
            # copied before the next batch overwrites them.
            results = self._request.infer(inputs, share_inputs=True, share_outputs=True)
            arrays = {name: results[name] for name in self._outputs}
        except Exception as error:  # RuntimeError by documentation, others by experience.
            raise EngineInternalError(f"openvino failed on a batch: {_short(error)}") from error
        return unpad_outputs(arrays, self._outputs, batch)

    def close(self) -> None:
        """Free the compiled model. Calling it twice is harmless."""
        self._request = None


def _settings(device: str, num_threads: int) -> dict[str, Any]:
    """How a model is compiled."""
    settings: dict[str, Any] = {
        # On machines with AMX or AVX512-BF16 the default is bf16 for all that is not INT8, which
        # changes answers. Accuracy first: everywhere the results that the artifact was gated on.
        "INFERENCE_PRECISION_HINT": "f32",
        # One batch at a time, on all threads; the scheduler makes the batches.
        "NUM_STREAMS": 1,
    }
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = num_threads
        settings["CPU_RUNTIME_CACHE_CAPACITY"] = _CACHE_CAPACITY
        # Processes side by side would all pin their threads to the same first cores. Alone on a
        # machine it makes no difference that could be measured.
        settings["ENABLE_CPU_PINNING"] = False
        if not has_exact_int8(cpu_info()):
            # Its INT8 products would saturate there, and answers change (0.6 F1 on SQuAD); float
            # products of the same integers are exact. They are quicker, too, so that a pair-safe
            # artifact has them as well (benchmarks/results/2026-11-28-pair-safe.md).
            settings["LP_TRANSFORMS_MODE"] = False
    return settings


@contextmanager
def _small_onednn_cache() -> Iterator[None]:
    """Bound oneDNN's cache, which reads its capacity once, when the first model is compiled.

    Yields:
        Nothing. Afterwards the variable is as before: torch has a oneDNN of its own.
    """
    is_ours = _ONEDNN_CACHE_CAPACITY not in os.environ
    if is_ours:
        os.environ[_ONEDNN_CACHE_CAPACITY] = str(_CACHE_CAPACITY)
    try:
        yield
    finally:
        if is_ours:
            os.environ.pop(_ONEDNN_CACHE_CAPACITY, None)


def _device_name(device: str) -> str:
    return "CPU" if device == "cpu" else device


def _library() -> ModuleType:
    """Import OpenVINO without its usage reports, which are sent while it is being imported."""
    # None makes the import of that package fail, which OpenVINO is prepared for: it takes a stub.
    # Somebody who imported it before us has decided otherwise.
    is_ours = _TELEMETRY not in sys.modules
    if is_ours:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if is_ours:
            del sys.modules[_TELEMETRY]
    module: ModuleType = openvino
    return module


@functools.cache
def _core() -> Any:
    """Return the process's one Core, which is never freed.

    With its last user the CPU plugin goes, and unmaps the alternate signal stack that it gave to
    the thread that loaded it. Where another thread does that (a garbage collection, a server's
    worker), the first thread dies of the next signal that it handles.
    """
    return _library().Core()


def _short(error: Exception) -> str:
    """The last line, which says what went wrong; those before it name files of the library."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
