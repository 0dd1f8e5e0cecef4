"""Which layers may not be INT8? Each one's own harm is measured, and as few as needed stay float.

A layer's sensitivity is what its quantization alone does to the final logits: the float graph runs
with this one layer in INT8, on windows of calibration text. An error of the layer's output, which
the search minimizes, says nothing of how much the layers behind it care.

Layers are then kept in float from the most sensitive one on, and the fewest are taken with which
INT8 passes on examples of the calibration file that nothing was calibrated on.

Source: one layer at a time, Wang et al. 2019 (HAQ), arXiv:1811.08886, section 3; choosing by rank,
Dong et al. 2019 (HAWQ-V2), arXiv:1911.03852, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bert_rt.engines.onnxruntime import open_session
from bert_rt.engines.threads import available_cpus
from bert_rt.support.progress import Progress
from bert_rt.support.seq2seq import PRESENT
from bert_rt.types import FloatArray
from compile.int8.drives import Drive
from compile.int8.quantize import quantize
from compile.int8.search import LayerPlan

__all__ = ["fewest_float_layers", "layer_sensitivities"]


def layer_sensitivities(
    model: ir.Model,
    plans: Mapping[str, LayerPlan],
    drive: Drive,
    progress: Progress,
) -> dict[str, float]:
    """Measure what every layer's quantization alone does to the logits.

    Args:
        model: The fused float graph; it is not changed.
        plans: Layer name to plan.
        drive: Runs the graph over calibration data; outputs at padding are not looked at.
        progress: Advanced at every layer.

    Returns:
        Layer name to the mean squared error of the logits over their variance, the largest first.
        What is quantized beside the layers (the embeddings) is quantized on both sides.
    """
    wanted = _logits(quantize(model, {}), drive)
    variance = max(float(wanted.var()), float(np.finfo(np.float32).tiny))
    errors = {}
    for name, plan in plans.items():
        got = _logits(quantize(model, {name: plan}), drive)
        errors[name] = float(np.square(got - wanted).mean()) / variance
        progress.advance(1)
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def fewest_float_layers(
    ranked: Sequence[str], passes: Callable[[tuple[str, ...]], bool], *, most: int
) -> tuple[str, ...] | None:
    """Find the fewest layers to keep in float, from the most sensitive one on.

    Doubles until it passes and halves the rest, on the understanding that one more layer in float
    never harms: few trials, each of which costs an evaluation.

    Args:
        ranked: Layer names, the most sensitive first.
        passes: Whether INT8 is good enough with these layers in float.
        most: Layers that may be kept at most.

    Returns:
        The layers; none where INT8 passes as it is; None where it fails even with most of them.
    """
    most = min(most, len(ranked))
    if passes(()):
        return ()
    failed, count = 0, 1
    while count < most and not passes(tuple(ranked[:count])):
        failed, count = count, 2 * count
    # The last doubling may overshoot, and has not been tried where it reached the end.
    if count >= most:
        count = most
        if count == failed or not passes(tuple(ranked[:count])):
            return None
    while count - failed > 1:
        middle = (failed + count) // 2
        if passes(tuple(ranked[:middle])):
            count = middle
        else:
            failed = middle
    return tuple(ranked[:count])


def _logits(model: ir.Model, drive: Drive) -> FloatArray:
    """Return all logits of real tokens (or texts) in one row, float32."""
    session = open_session(ir.to_proto(model).SerializeToString(), num_threads=available_cpus())
    # Outputs per token share the inputs' second dimension, which has a name.
    _, length = model.graph.inputs[0].shape or (None, None)
    per_token = {
        str(output.name): list(output.shape or ())[1:2] == [length]
        for output in model.graph.outputs
        # What a step leaves to the next one shows in the logits.
        if not str(output.name).startswith(PRESENT)
    }
    parts = [
        (run.outputs[name][run.is_token] if is_per_token else run.outputs[name]).ravel()
        for run in drive.run(session)
        for name, is_per_token in per_token.items()
    ]
    return np.concatenate(parts)
