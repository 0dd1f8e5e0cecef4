"""From the fused float graph to the INT8 model: the whole of quantization in one view.

observe -> balance attention -> search every layer -> measure what each costs -> keep those in float
that cost too much, judged on examples that were set aside
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from bert_rt.artifact.artifact import Artifact, build_artifact
from bert_rt.artifact.manifest import ManifestFields
from bert_rt.support.progress import progress
from compile.graph.linear import find_linear_layers
from compile.int8.balance import balance_attention
from compile.int8.calibrate import observe
from compile.int8.control import choose_float_layers
from compile.int8.drives import Drive
from compile.int8.matching import match_channels
from compile.int8.quantize import SCHEME, QuantConfig, plan_layers, quantize
from compile.int8.search import LayerPlan
from compile.int8.sensitivity import layer_sensitivities
from compile.judge.gate import Verdict

__all__ = ["Compiled", "FloatGraph", "plan_graph", "quantize_within_bars"]

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


@dataclass(frozen=True, slots=True)
class FloatGraph:
    """A graph that is to be quantized.

    Attributes:
        model: The fused float graph; attention's weights are balanced in place, which changes
            nothing that it computes.
        drive: Runs it over the data to calibrate on.
        num_heads: Attention heads of its layers.
    """

    model: ir.Model
    drive: Drive
    num_heads: int


def quantize_within_bars(
    graphs: Mapping[str, FloatGraph],
    fields: ManifestFields,
    quant: QuantConfig,
    *,
    make_files: Callable[[Mapping[str, ir.Model]], dict[str, bytes]],
    judge: Callable[[Compiled], Verdict] | None,
    num_held_out: int,
) -> Compiled:
    """Quantize a model, and keep the fewest layers in float with which it keeps what is wanted.

    Args:
        graphs: Its graphs by name; names of layers are unique among all of them.
        fields: The float model's manifest.
        quant: How to quantize.
        make_files: Makes the artifact's files of its graphs.
        judge: Judges an INT8 model on examples that were set aside; None where there are none.
        num_held_out: Number of these examples, for the manifest.

    Returns:
        The INT8 model, its manifest's "quantization" filled in.

    Raises:
        CalibrationError: There is nothing to calibrate on, or an activation is not finite.
        ParityError: It loses too much even with half of its layers in float.
    """
    plans_of = {name: plan_graph(graph, quant) for name, graph in graphs.items()}
    plans = {name: plan for group in plans_of.values() for name, plan in group.items()}
    sensitivities: dict[str, float] = {}
    with progress("sensitivity", total=len(plans), unit="layers") as shown:
        for name, graph in graphs.items():
            drive = graph.drive.first(_SENSITIVITY_WINDOWS)
            sensitivities |= layer_sensitivities(graph.model, plans_of[name], drive, shown)
    sensitivities = dict(sorted(sensitivities.items(), key=lambda item: -item[1]))

    def make(float_layers: tuple[str, ...]) -> Compiled:
        kept = {name: plan for name, plan in plans.items() if name not in float_layers}
        int8_fields = ManifestFields(**{**fields, "precision": "int8"})
        made = {name: quantize(graph.model, kept) for name, graph in graphs.items()}
        return Compiled(make_files(made), int8_fields, kept)

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
        "calibration_samples": max(graph.drive.num_samples for graph in graphs.values()),
        "held_out": {"total": num_held_out, "verdict": verdict},
        "seed": quant.seed,
        "float_layers": {name: sensitivities[name] for name in float_layers},
        "layers": _layer_records(compiled.plans, sensitivities),
    }
    return compiled


def plan_graph(graph: FloatGraph, quant: QuantConfig) -> dict[str, LayerPlan]:
    """Observe, balance, and find every layer's quantization.

    Args:
        graph: The graph.
        quant: How to quantize.

    Returns:
        Layer name to plan.

    Raises:
        CalibrationError: An activation is not finite.
    """
    model, num_heads = graph.model, graph.num_heads
    layers = [layer for layer in find_linear_layers(model) if layer.may_be_int8]
    with progress("calibrate", total=graph.drive.num_samples, unit="samples") as shown:
        observers = observe(
            model,
            layers,
            graph.drive,
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
    layers = [layer for layer in find_linear_layers(model) if layer.may_be_int8]
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
