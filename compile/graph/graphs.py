"""The graphs of one model, and what is known of them once they are fused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from bert_rt.artifact.entries import ModelEntry

__all__ = ["Graphs"]


@dataclass(frozen=True, slots=True)
class Graphs:
    """The fused float graphs of a model.

    Attributes:
        models: Name to graph.
        entries: Name to what the manifest says of it.
        fusions: Rule name to number of rewrites.
        parity: How far they are from PyTorch: "max_abs_error", "num_shapes" and "limit".
    """

    models: Mapping[str, ir.Model]
    entries: Mapping[str, ModelEntry]
    fusions: Mapping[str, int]
    parity: Mapping[str, float]
