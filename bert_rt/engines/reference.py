"""The oracle: model.onnx node by node in NumPy, one sequence at a time, as the standard says.

It is the `onnx` package's own reference implementation of every operator, so nothing of it is
shared with an engine under test: of a float artifact it gives the float result, of an INT8 artifact
what QuantizeLinear and DequantizeLinear mean exactly. It is far too slow for anything but tests.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from bert_rt.artifact.artifact import Artifact
from bert_rt.engines.base import EngineInfo, EngineOptions
from bert_rt.errors import EngineInternalError, EngineUnavailableError
from bert_rt.types import ClassLogits, Logits, PackedBatch, SpanLogits

__all__ = ["ReferenceEngine", "missing", "open_engine"]


def missing(artifact: Artifact | None, options: EngineOptions) -> str | None:
    """Say what the reference engine lacks here.

    Args:
        artifact: Any artifact will do.
        options: The device must be "cpu".

    Returns:
        None where the engine can run, else one sentence saying what is missing.
    """
    if importlib.util.find_spec("onnx") is None:
        return "the package onnx is not installed"
    if options.device != "cpu":
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
        EngineUnavailableError: It lacks something here.
    """
    reason = missing(artifact, options)
    if reason is not None:
        raise EngineUnavailableError(f"engine: 'reference' cannot run here: {reason}")
    return ReferenceEngine(artifact.read("model.onnx"), artifact.manifest.precision)


class ReferenceEngine:
    """An open reference engine."""

    def __init__(self, model: bytes, precision: str) -> None:
        """Read a model.

        Args:
            model: The bytes of model.onnx.
            precision: "int8" or "float32", for the info only.
        """
        onnx: Any = importlib.import_module("onnx")
        reference: Any = importlib.import_module("onnx.reference")
        self._evaluator: Any = reference.ReferenceEvaluator(onnx.load_from_string(model))
        self._is_spans = "start_logits" in self._evaluator.output_names
        self._info = EngineInfo(
            name="reference",
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

    def run(self, batch: PackedBatch) -> Logits:
        """Compute the logits of every token (or sequence) of the batch.

        Args:
            batch: Sequences without padding.

        Returns:
            SpanLogits with arrays of shape (T,), or ClassLogits of shape (B, C), by the model's
            outputs.

        Raises:
            EngineInternalError: The engine is closed.
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
            names = ["start_logits", "end_logits"] if self._is_spans else ["logits"]
            parts.append([x[0].astype(np.float32) for x in self._evaluator.run(names, feeds)])
        if self._is_spans:
            empty = np.zeros(0, np.float32)
            starts, ends = (np.concatenate([empty, *(p[i] for p in parts)]) for i in (0, 1))
            return SpanLogits(start_logits=starts, end_logits=ends)
        return ClassLogits(logits=np.stack([p[0] for p in parts]))

    def close(self) -> None:
        """Free the model. Calling it twice is harmless."""
        self._evaluator = None
