"""The oracle: model.onnx node by node in NumPy, one sequence at a time, as the standard says.

It is the `onnx` package's own reference implementation of every operator, so nothing of it is
shared with an engine under test: of a float artifact it gives the float result, of an INT8 artifact
what QuantizeLinear and DequantizeLinear mean exactly. It is far too slow for anything but tests.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import EngineInfo, EngineOptions, EngineSpec, check_output_names
from bert_rt.engines.packing import unpad_outputs
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.types import Outputs, PackedBatch

__all__ = ["SPEC", "ReferenceEngine", "missing", "open_engine"]

SPEC = EngineSpec(
    name="reference",
    rank=None,
    packages={"onnx": ()},
    fork="reopens",
    precisions=("int8", "float32"),
    devices=("cpu",),
)


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what is missing for the reference engine.

    Args:
        artifact: Any artifact will do.
        options: The device must be "cpu".

    Returns:
        None where the engine can run, else one sentence saying what is missing.
    """
    if importlib.util.find_spec("onnx") is None:
        return "the package onnx is not installed"
    if options.device not in SPEC.devices:
        return f'device {options.device!r} is not supported, only "cpu"'
    return None


def open_engine(artifact: Artifact, options: EngineOptions) -> ReferenceEngine:
    """Open the reference engine.

    Args:
        artifact: The verified artifact, INT8 or float.
        options: Ignored but for the device.

    Returns:
        An engine that is ready to run, slowly.

    Raises:
        EngineUnavailableError: Something is missing.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'reference' cannot run here: {reason}")
    manifest = artifact.manifest
    return ReferenceEngine(artifact.read(manifest.model.file), manifest.precision, manifest.outputs)


class ReferenceEngine:
    """An open reference engine."""

    def __init__(self, model: bytes, precision: str, outputs: Mapping[str, str]) -> None:
        """Read a model.

        Args:
            model: The bytes of model.onnx.
            precision: "int8" or "float32", for the info only.
            outputs: Names and kinds of its outputs.

        Raises:
            ArtifactFormatError: The graph has no such outputs.
        """
        onnx: Any = importlib.import_module("onnx")
        reference: Any = importlib.import_module("onnx.reference")
        self._evaluator: Any = reference.ReferenceEvaluator(onnx.load_from_string(model))
        self._outputs = dict(outputs)
        check_output_names(self._outputs, self._evaluator.output_names)
        self._info = EngineInfo(
            name=SPEC.name,
            version=str(onnx.__version__),
            device="cpu",
            precision=precision,
            num_threads=1,
            is_packed=True,
            notice="the reference engine is an oracle for tests and very slow",
        )

    @property
    def info(self) -> EngineInfo:
        """Name and precision of this engine."""
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
            EngineInternalError: The engine is closed.
            ArtifactFormatError: As in unpad_outputs.
        """
        if self._evaluator is None:
            raise EngineInternalError("engine: 'reference' is closed")
        parts = []
        for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
            ids = batch.input_ids[start:end].astype(np.int64)[None]
            types = batch.token_type_ids[start:end].astype(np.int64)[None]
            feeds = {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "token_type_ids": types,
            }
            arrays = self._evaluator.run([*self._outputs], feeds)
            named = zip(self._outputs, (array.astype(np.float32) for array in arrays), strict=True)
            one = PackedBatch(ids[0], types[0], np.array([0, end - start], np.int32), end - start)
            parts.append(unpad_outputs(dict(named), self._outputs, one))
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        self._evaluator = None
