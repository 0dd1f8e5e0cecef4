"""From the fused float graph to the INT8 model: the whole of quantization in one view.

observe -> balance attention -> search every layer -> measure what each costs -> keep those in float
that cost too much, judged on examples that were set aside
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.support.progress import progress
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TokenSequence
from compile.graph.linear import find_linear_layers
from compile.int8.balance import balance_attention
from compile.int8.calibrate import observe
from compile.int8.control import Verdict, choose_float_layers
from compile.int8.quantize import SCHEME, QuantConfig, plan_layers, quantize
from compile.int8.search import LayerPlan
from compile.int8.sensitivity import layer_sensitivities
from compile.judge.gate import measure
from compile.report.changes import ChangedAnswer
from compile.tasks.base import CompileTask

__all__ = ["Compiled", "quantize_within_bars"]

_ENGINE = "onnxruntime"
# Thousands of tokens: enough to tell layers apart, and a run of the model each.
_SENSITIVITY_WINDOWS = 32


@dataclass(frozen=True, slots=True)
class Compiled:
    """What may be an artifact: the bytes that are measured are the bytes that are written.

    Attributes:
        files: File name to content.
        fields: Of the manifest.
        plans: Layer name to quantization; empty for a float model.
        changes: Engine name to what INT8 says otherwise than float; filled by the gate.
    """

    files: dict[str, bytes]
    fields: ManifestFields
    plans: dict[str, LayerPlan]
    changes: dict[str, list[ChangedAnswer]] = field(default_factory=dict)


def quantize_within_bars(
    model: ir.Model,
    reference: Compiled,
    task: CompileTask,
    examples: Sequence[Any],
    held_out: Sequence[Any],
    tokenizer: Tokenizer,
    quant: QuantConfig,
    make_files: Callable[[ir.Model], dict[str, bytes]],
) -> Compiled:
    """Quantize a model, and keep the fewest layers in float with which it keeps what is wanted.

    Args:
        model: The fused float graph; attention's weights are balanced in place, which changes
            nothing that it computes.
        reference: The float model.
        task: Draws, scores and judges.
        examples: Those to calibrate on.
        held_out: Those that INT8 is judged on; with none, nothing is judged here.
        tokenizer: The model's.
        quant: How to quantize.
        make_files: Makes the artifact's files of a graph.

    Returns:
        The INT8 model, its manifest's "quantization" filled in.

    Raises:
        CalibrationError: There is nothing to calibrate on, or an activation is not finite.
        ParityError: It loses too much even with half of its layers in float.
    """
    fields = reference.fields
    limits, num_heads = fields["limits"], fields["architecture"].num_attention_heads
    plans, features = _plan(model, task, examples, tokenizer, quant, limits, num_heads)
    with progress("sensitivity", total=len(plans), unit="layers") as shown:
        sensitivities = layer_sensitivities(
            model, plans, features[:_SENSITIVITY_WINDOWS], tokenizer.pad_id, shown
        )

    def make(float_layers: tuple[str, ...]) -> Compiled:
        kept = {name: plan for name, plan in plans.items() if name not in float_layers}
        int8_fields = ManifestFields(**{**fields, "precision": "int8"})
        return Compiled(make_files(quantize(model, kept)), int8_fields, kept)

    most = int(quant.max_float_share * len(plans))
    float_layers, told = _choose(sensitivities, make, reference, task, held_out, most)
    compiled = make(float_layers)
    compiled.fields["quantization"] = {
        **SCHEME,
        "calibration_samples": len(features),
        "held_out": {"total": len(held_out), "verdict": told},
        "seed": quant.seed,
        "float_layers": {name: sensitivities[name] for name in float_layers},
        "layers": _told(compiled.plans, sensitivities),
    }
    return compiled


def _choose(
    sensitivities: Mapping[str, float],
    make: Callable[[tuple[str, ...]], Compiled],
    reference: Compiled,
    task: CompileTask,
    held_out: Sequence[Any],
    most: int,
) -> tuple[tuple[str, ...], str]:
    """Return the layers that stay in float, and the verdict with them; "" where none was asked."""
    if not held_out:
        return (), ""
    wanted = _score(reference, task, held_out)

    def judge(names: tuple[str, ...]) -> Verdict:
        return task.judge(wanted, _score(make(names), task, held_out))

    float_layers, verdict = choose_float_layers(sensitivities, judge, most=most)
    return float_layers, verdict.told


def _plan(
    model: ir.Model,
    task: CompileTask,
    examples: Sequence[Any],
    tokenizer: Tokenizer,
    quant: QuantConfig,
    limits: Mapping[str, Any],
    num_heads: int,
) -> tuple[dict[str, LayerPlan], Sequence[TokenSequence]]:
    """Observe, balance, and find every encoder layer's quantization; also return the windows."""
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    features = task.draw(
        examples, tokenizer, limits, num_samples=quant.num_samples, seed=quant.seed
    )
    with progress("calibrate", total=len(features), unit="windows") as shown:
        observers = observe(
            model,
            layers,
            features,
            tokenizer.pad_id,
            max_rows=quant.max_rows,
            seed=quant.seed,
            progress=shown,
        )
    balance_attention(model, observers, num_heads=num_heads)
    # Balancing has given them other weights.
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    with progress("quantize", total=len(layers), unit="layers") as shown:
        return plan_layers(layers, observers, quant, shown), features


def _score(compiled: Compiled, task: CompileTask, examples: Sequence[Any]) -> Any:
    """Score a model on ONNX Runtime."""
    artifact = build_artifact(files=compiled.files, **compiled.fields)
    return measure(artifact, examples, engines=(_ENGINE,), score=task.evaluate)[_ENGINE]


def _told(
    plans: Mapping[str, LayerPlan], sensitivities: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Say for the manifest how every layer was quantized."""
    return {
        plan.name: {
            "error": plan.error,
            "naive_error": plan.naive_error,
            "sensitivity": sensitivities[plan.name],
            "alpha": plan.alpha,
            "clip": plan.clip,
            "outlier_channels": plan.outlier_channels.tolist(),
        }
        for plan in plans.values()
    }
