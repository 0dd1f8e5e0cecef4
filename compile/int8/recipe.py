"""From the fused float graph to the INT8 model: the whole of quantization in one view.

observe -> balance attention -> search every layer -> measure what each costs -> keep those in float
that cost too much, judged on examples that were set aside
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from bert_rt.artifact.artifact import Artifact, build_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.support.progress import progress
from bert_rt.types import TokenSequence
from compile.graph.linear import find_linear_layers
from compile.int8.balance import balance_attention
from compile.int8.calibrate import observe
from compile.int8.control import choose_float_layers
from compile.int8.matching import match_channels
from compile.int8.quantize import SCHEME, QuantConfig, plan_layers, quantize
from compile.int8.search import LayerPlan
from compile.int8.sensitivity import layer_sensitivities
from compile.judge.gate import Verdict

__all__ = ["Compiled", "quantize_within_bars"]

# Thousands of tokens: enough to distinguish layers, and a run of the model each.
_SENSITIVITY_WINDOWS = 32


@dataclass(frozen=True, slots=True)
class Compiled:
    """What may be an artifact: the bytes that are measured are the bytes that are written.

    Attributes:
        files: File name to content.
        fields: Of the manifest.
        plans: Layer name to quantization; empty for a float model.
    """

    files: dict[str, bytes]
    fields: ManifestFields
    plans: dict[str, LayerPlan]

    @property
    def artifact(self) -> Artifact:
        """The artifact, in memory."""
        return build_artifact(files=self.files, **self.fields)


def quantize_within_bars(
    model: ir.Model,
    fields: ManifestFields,
    sequences: Sequence[TokenSequence],
    pad_id: int,
    quant: QuantConfig,
    *,
    make_files: Callable[[ir.Model], dict[str, bytes]],
    judge: Callable[[Compiled], Verdict] | None,
    num_held_out: int,
) -> Compiled:
    """Quantize a model, and keep the fewest layers in float with which it keeps what is wanted.

    Args:
        model: The fused float graph; attention's weights are balanced in place, which changes
            nothing that it computes.
        fields: The float model's manifest.
        sequences: Those to calibrate on.
        pad_id: Id of the padding token.
        quant: How to quantize.
        make_files: Makes the artifact's files of a graph.
        judge: Judges an INT8 model on examples that were set aside; None where there are none.
        num_held_out: Number of these examples, for the manifest.

    Returns:
        The INT8 model, its manifest's "quantization" filled in.

    Raises:
        CalibrationError: There is nothing to calibrate on, or an activation is not finite.
        ParityError: It loses too much even with half of its layers in float.
    """
    plans = _plan(model, sequences, pad_id, quant, fields["architecture"].num_attention_heads)
    with progress("sensitivity", total=len(plans), unit="layers") as shown:
        sensitivities = layer_sensitivities(
            model, plans, sequences[:_SENSITIVITY_WINDOWS], pad_id, shown
        )

    def make(float_layers: tuple[str, ...]) -> Compiled:
        kept = {name: plan for name, plan in plans.items() if name not in float_layers}
        int8_fields = ManifestFields(**{**fields, "precision": "int8"})
        return Compiled(make_files(quantize(model, kept)), int8_fields, kept)

    most = int(quant.max_float_share * len(plans))
    float_layers: tuple[str, ...] = ()
    verdict = ""
    if judge is not None:
        found = choose_float_layers(sensitivities, lambda names: judge(make(names)), most=most)
        float_layers, verdict = found[0], found[1].summary
    compiled = make(float_layers)
    compiled.fields["quantization"] = {
        **SCHEME,
        **({"pair_safe": True} if quant.pair_safe else {}),
        "calibration_samples": len(sequences),
        "held_out": {"total": num_held_out, "verdict": verdict},
        "seed": quant.seed,
        "float_layers": {name: sensitivities[name] for name in float_layers},
        "layers": _layer_records(compiled.plans, sensitivities),
    }
    return compiled


def _plan(
    model: ir.Model,
    sequences: Sequence[TokenSequence],
    pad_id: int,
    quant: QuantConfig,
    num_heads: int,
) -> dict[str, LayerPlan]:
    """Observe, balance, and find every encoder layer's quantization."""
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    with progress("calibrate", total=len(sequences), unit="windows") as shown:
        observers = observe(
            model,
            layers,
            sequences,
            pad_id,
            max_rows=quant.max_rows,
            seed=quant.seed,
            progress=shown,
        )
    balance_attention(model, observers, num_heads=num_heads)
    if quant.pair_safe:
        match_channels(
            model,
            observers,
            num_heads=num_heads,
            num_outliers=quant.num_outliers,
            seed=quant.seed,
        )
    # They have other weights now.
    layers = [layer for layer in find_linear_layers(model) if layer.is_encoder]
    with progress("quantize", total=len(layers), unit="layers") as shown:
        return plan_layers(layers, observers, quant, shown)


def _layer_records(
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
