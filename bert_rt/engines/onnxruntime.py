"""The ONNX Runtime engine: runs an artifact's graph as it is, on the CPU or on a CUDA device."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
from bert_rt.engines.packing import pad, unpad_outputs
from bert_rt.engines.seq2seq.base import Seq2SeqEngine
from bert_rt.engines.seq2seq.graphs import GraphSeq2Seq, RunGraph, check_graphs
from bert_rt.engines.threads import resolve_num_threads
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.types import Outputs, PackedBatch

if TYPE_CHECKING:
    from types import ModuleType

    import onnxruntime

__all__ = ["SPEC", "OnnxRuntimeEngine", "missing", "open_engine", "open_seq2seq", "open_session"]

SPEC = EngineSpec(
    name="onnxruntime",
    rank=20,
    # Older ones have no QuantizeLinear of opset 23.
    packages={"onnxruntime": (1, 24, 1)},
    fork="reopens",
    precisions=("int8", "float32"),
    devices=("cpu", "cuda"),
    generates=True,
)
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# In ONNX Runtime 1.32 a layer norm that is fused with the sum before it takes longer than both
# apart: 8 % of a small encoder's time (AVX2). Alone it rounds more, which INT8 does not notice.
_SLOWER_IN_INT8 = ["SkipLayerNormFusion"]
_SILENT = 4  # Fatal errors only; all others become exceptions, which say the same.


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what is missing for this engine.

    Args:
        artifact: Any artifact can be run.
        options: The device; "cuda" needs a build of ONNX Runtime with its CUDA provider.

    Returns:
        None where the engine can run, else one sentence.
    """
    reason = missing_package(SPEC.name, SPEC.packages[SPEC.name])
    if reason is not None:
        return reason
    kind, _, index = options.device.partition(":")
    if kind not in _PROVIDERS or (index and not (kind == "cuda" and index.isdecimal())):
        return f"device: got {options.device!r}, want 'cpu', 'cuda' or 'cuda:N'."
    # For the CPU, nothing is imported: asking costs no time.
    if kind == "cuda" and _PROVIDERS[kind] not in _library().get_available_providers():
        return (
            f"device: got {options.device!r}, and the installed onnxruntime has no "
            "CUDAExecutionProvider (pip install onnxruntime-gpu)."
        )
    return None


def open_engine(artifact: Artifact, options: EngineOptions) -> Engine:
    """Open a session on the artifact's model.onnx.

    Args:
        artifact: The verified artifact.
        options: Device and threads.

    Returns:
        The engine, ready to run.

    Raises:
        ConfigError: num_threads is out of range.
        EngineUnavailableError: Something is missing, or the device does not start.
        EngineInternalError: ONNX Runtime refuses the model.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'onnxruntime' cannot run here: {reason}")
    num_threads = resolve_num_threads(options.num_threads)
    session = open_session(
        artifact.read(artifact.manifest.model.file),
        device=options.device,
        num_threads=num_threads,
        is_pair_safe=artifact.manifest.is_pair_safe,
        is_int8=artifact.manifest.precision == "int8",
    )
    return OnnxRuntimeEngine(session, artifact, options.device, num_threads)


def open_seq2seq(artifact: Artifact, options: EngineOptions) -> Seq2SeqEngine:
    """Open sessions on both graphs of an artifact with a decoder; errors as in open_engine."""
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'onnxruntime' cannot run here: {reason}")
    num_threads = resolve_num_threads(options.num_threads)
    manifest = artifact.manifest
    sessions = [
        open_session(
            artifact.read(manifest.graph(name).file),
            device=options.device,
            num_threads=num_threads,
            is_pair_safe=manifest.is_pair_safe,
            is_int8=manifest.precision == "int8",
        )
        for name in ("encoder", "decoder")
    ]
    names = [[output.name for output in session.get_outputs()] for session in sessions]
    inputs = {value.name: value.shape for value in sessions[1].get_inputs()}
    check_graphs(artifact, inputs, *names)
    encode, step = (
        _runner(session, outputs) for session, outputs in zip(sessions, names, strict=True)
    )
    info = EngineInfo(
        name=SPEC.name,
        version=_library().__version__,
        device=options.device,
        precision=manifest.precision,
        num_threads=num_threads,
        is_packed=False,
    )
    return GraphSeq2Seq(encode, step, artifact, info)


def _runner(session: Any, outputs: Sequence[str]) -> RunGraph:
    """Run a graph whose outputs may be inputs of the next step: no cache becomes an array."""
    wrap = _library().OrtValue.ortvalue_from_numpy

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = {
                name: wrap(feed) if isinstance(feed, np.ndarray) else feed
                for name, feed in feeds.items()
            }
            return dict(zip(outputs, session.run_with_ort_values(outputs, values), strict=True))
        except Exception as error:  # The library's own classes have no common public base.
            raise EngineInternalError(f"onnxruntime failed on a batch: {error}") from error

    return run


def open_session(
    model: bytes,
    *,
    device: str = "cpu",
    num_threads: int,
    is_pair_safe: bool = False,
    is_int8: bool = False,
) -> onnxruntime.InferenceSession:
    """Open a bare session the way this project wants one: quiet, without telemetry or spinning.

    Args:
        model: An ONNX model.
        device: "cpu", "cuda" or "cuda:N".
        num_threads: Threads of the session's pool, the calling one included.
        is_pair_safe: Whether its INT8 products are exact without VNNI, too
            (Manifest.is_pair_safe).
        is_int8: Whether it is an INT8 model that is run for its results.

    Returns:
        The session.

    Raises:
        EngineUnavailableError: The device does not start.
        EngineInternalError: ONNX Runtime refuses the model.
    """
    onnxruntime = _library()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.intra_op_num_threads = num_threads
    # Nodes of one layer depend on each other: nothing to gain from running two at a time.
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads burn the CPU time of tokenization, of other engines and, under a quota, our
    # own; what they save, some microseconds a node, is lost in the noise of a batch.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not (is_pair_safe or has_exact_int8(cpu_info())):
        # Else products saturate, and answers are others than the receipt says; 1.6 times slower.
        settings.add_session_config_entry("session.x64quantprecision", "1")
    # Nearly every batch has a shape of its own; a memory plan would be kept for each of them.
    settings.enable_mem_pattern = False
    kind, _, index = device.partition(":")
    provider_options = [{"device_id": index or "0"}] if kind == "cuda" else [{}]
    try:
        session = onnxruntime.InferenceSession(
            model,
            settings,
            providers=[_PROVIDERS[kind]],
            provider_options=provider_options,
            disabled_optimizers=_SLOWER_IN_INT8 if is_int8 and kind == "cpu" else [],
        )
    except Exception as error:  # The library's own classes have no common public base.
        raise EngineInternalError(f"onnxruntime cannot open model.onnx: {error}") from error
    # A provider that fails to start (no driver, an old card) is replaced by the CPU silently.
    if session.get_providers()[0] != _PROVIDERS[kind]:
        raise EngineUnavailableError(
            f"device: got {device!r}, and onnxruntime could not start "
            f"{_PROVIDERS[kind]} (it offers {session.get_providers()})"
        )
    return session


def _library() -> ModuleType:
    # Release 1.32 brought usage reports to Linux, sent by a thread that starts with the import (and
    # that a forked process waits for in vain when it ends). Whoever wants them sets it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    module: ModuleType = onnxruntime
    return module


class OnnxRuntimeEngine:
    """Runs batches through ONNX Runtime, padded to the longest sequence."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        artifact: Artifact,
        device: str,
        num_threads: int,
    ) -> None:
        """Take over a session.

        Args:
            session: An open session on the artifact's model.
            artifact: Tells the precision, the outputs and the padding token.
            device: The device as the caller named it.
            num_threads: Threads of the session's pool, the calling one included.

        Raises:
            ArtifactFormatError: The graph has no such outputs.
        """
        manifest = artifact.manifest
        self._session: Any = session
        self._pad_id = manifest.architecture.pad_token_id
        self._outputs = dict(manifest.outputs)
        check_output_names(self._outputs, [output.name for output in session.get_outputs()])
        self._precision = manifest.precision
        self._device = device
        self._num_threads = num_threads

    @functools.cached_property
    def info(self) -> EngineInfo:
        """Name, precision, device and threads of this engine."""
        return EngineInfo(
            name=SPEC.name,
            version=_library().__version__,
            device=self._device,
            precision=self._precision,
            num_threads=self._num_threads,
            is_packed=False,
        )

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
            EngineInternalError: ONNX Runtime failed, or the engine is closed.
            ArtifactFormatError: As in unpad_outputs.
        """
        if self._session is None:
            raise EngineInternalError("onnxruntime: the engine is closed")
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = dict(zip(names, pad(batch, self._pad_id), strict=True))
        try:
            arrays = self._session.run([*self._outputs], inputs)
        except Exception as error:  # The library's own classes have no common public base.
            raise EngineInternalError(f"onnxruntime failed on a batch: {error}") from error
        return unpad_outputs(dict(zip(self._outputs, arrays, strict=True)), self._outputs, batch)

    def close(self) -> None:
        """Free the session. Calling it twice is harmless."""
        self._session = None
