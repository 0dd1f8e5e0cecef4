"""report.html: what was fused, what was quantized, how far each layer moved, the verdict."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from compile.int8.search import LayerPlan
from compile.judge.gate import Gate, Measure
from compile.judge.receipt import float_engine
from compile.report.changes import Change
from compile.report.markup import between, svg, table
from compile.report.reliability import render_confidence

__all__ = ["render_report"]

# A logarithmic axis has no place for 0, and less than float32 resolves is nothing.
_LEAST_SHOWN = 1e-14
# Changed results listed of one engine; a page for people, not an archive.
_MAX_CHANGES = 20

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif }}
body {{ margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
td, th {{ border: 1px solid #ccc; padding: .2rem .6rem; text-align: left }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
svg {{ max-width: 100%; height: auto }}
code {{ overflow-wrap: anywhere }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def render_report(
    *,
    title: str,
    fusions: Mapping[str, int],
    provenance: Mapping[str, Any],
    receipt: Mapping[str, Any] | None,
    plans: Mapping[str, LayerPlan],
    gate: Gate,
    changes: Mapping[str, Sequence[Change]],
    quantization: Mapping[str, Any],
) -> bytes:
    """Write the report of one compile.

    Args:
        title: What was compiled.
        fusions: Rule name to number of rewrites.
        provenance: The manifest's provenance.
        receipt: The manifest's receipt, or None where no evaluation file was given.
        plans: Layer name to quantization; empty for a float artifact.
        gate: What was measured, and what was wanted.
        changes: Engine name to the results that INT8 changed on it, worst first.
        quantization: The manifest's: sensitivities, and the layers that stay in float.

    Returns:
        One HTML page, UTF-8, which loads nothing from elsewhere.
    """
    parts = ["<h2>Accuracy</h2>", _accuracy(receipt, gate)]
    if receipt is not None and "score_calibration" in receipt["float"]:
        parts += ["<h2>Confidence</h2>", render_confidence(receipt, provenance)]
    if changes:
        parts += ["<h2>Changed results</h2>"]
        head = gate.measure.changes
        parts += [_change_table(engine, changed, head) for engine, changed in changes.items()]
    parts += ["<h2>Fusions</h2>", table(("rule", "rewrites"), list(fusions.items()))]
    if plans:
        parts += ["<h2>Quantized layers</h2>", _explain_errors(), _error_plot(plans)]
        parts += [_layer_table(plans, quantization["layers"]), _float_layers(quantization)]
    parts += ["<h2>Provenance</h2>", table(("what", "value"), _flat(provenance))]
    page = _PAGE.format(title=html.escape(title), body="\n".join(parts))
    return page.encode()


def _accuracy(receipt: Mapping[str, Any] | None, gate: Gate) -> str:
    if receipt is None:
        return (
            "<p>Not measured: no evaluation file was given, so this artifact carries no promise. "
            "Compile with <code>--eval_file</code>.</p>"
        )
    measure, dataset, how = gate.measure, receipt["dataset"], receipt["intervals"]
    none = [""] * (2 + len(measure.comparisons))
    rows = [("float32", float_engine(), *_figures(measure, receipt["float"]), *none)]
    int8 = receipt.get("int8", {})
    for engine, scores in int8.items():
        difference = f"{measure.metric}_difference"
        rows.append(
            (
                "int8",
                engine,
                *_figures(measure, scores),
                between(scores[difference], scores[f"{difference}_interval"]),
                f"{scores[f'{measure.metric}_ratio']:.2%}",
                *(_compared(measure, name, scores) for name in measure.comparisons),
            )
        )
    head = (
        *("precision", "engine", *measure.metrics.values()),
        *(f"{measure.title} minus float's", f"{measure.title} over float's"),
        *measure.comparisons.values(),
    )
    # A model that the gate stops has no report, so what is shown here has passed.
    ceilings = "".join(
        f", and at most {gate.bars[f'max_{name}']:g}: {measure.comparisons[name]}"
        for name in measure.ceilings
    )
    wanted = (
        f"at least {gate.min_ratio:.2%} of float's {measure.title} on every engine, and a loss of "
        f"less than {gate.max_loss:g} at the interval's lower end{ceilings}"
    )
    verdict = f"<p>Gate: passed, {html.escape(wanted)}.</p>" if int8 else ""
    return (
        f"<p>All {dataset['total']} {measure.examples} of "
        f"<code>{html.escape(dataset['name'])}</code>. In brackets {how['confidence']:.0%} "
        f"intervals, from {how['num_resamples']} resamples of its {how['num_clusters']} "
        f"{measure.clusters}.</p>" + table(head, rows) + verdict
    )


def _figures(measure: Measure, scores: Mapping[str, Any]) -> list[str]:
    """Return the metrics of one model on one engine, the gate's with its interval."""
    return [
        between(scores[name], scores[f"{name}_interval"])
        if name == measure.metric
        else measure.show(name, scores[name])
        for name in measure.metrics
    ]


def _compared(measure: Measure, name: str, scores: Mapping[str, Any]) -> str:
    """Return a comparison with float: shares of one, which are no ceilings, in percent."""
    if name in measure.ceilings:
        return measure.show(name, scores[name])
    interval = scores.get(f"{name}_interval")
    if interval is None:
        return f"{scores[name]:.2%}"
    return between(100 * scores[name], [100 * end for end in interval]) + " %"


def _change_table(engine: str, changes: Sequence[Change], head: Sequence[str]) -> str:
    worse = sum(change.int8_score < change.float_score for change in changes)
    better = sum(change.int8_score > change.float_score for change in changes)
    shown = changes[:_MAX_CHANGES]
    rows = [
        (
            change.example,
            change.float_text or "(none)",
            100 * change.float_score,
            change.int8_text or "(none)",
            100 * change.int8_score,
        )
        for change in shown
    ]
    text = (
        f"<p>{html.escape(engine)}: {len(changes)} results differ from float's; {worse} score "
        f"less, {better} more. Shown: {len(shown)}, the largest losses first.</p>"
    )
    return text + (table(head, rows) if rows else "")


def _explain_errors() -> str:
    return (
        "<p>Error: squared error of a layer's output over the output's square, on calibration "
        "text. <em>Naive</em>: one scale from the least to the greatest value, nothing else. "
        "<em>Chosen</em>: with the smoothing, clipping and outlier channels in the table. "
        "<em>Sensitivity</em>: squared error of the model's logits over their variance, with this "
        "layer alone in INT8.</p>"
    )


def _float_layers(quantization: Mapping[str, Any]) -> str:
    held_out = quantization["held_out"]
    text = (
        f"<p>Judged on {held_out['total']} examples of the calibration file that were set aside: "
        f"{html.escape(held_out['verdict'])}.</p>"
        if held_out["total"]
        else "<p>Not judged before the evaluation: no example could be set aside.</p>"
    )
    rows = [(name, f"{error:.2e}") for name, error in quantization["float_layers"].items()]
    if not rows:
        return text + "<p>Every layer of the encoder is INT8.</p>"
    return text + "<p>These layers stay in float:</p>" + table(("layer", "sensitivity"), rows)


def _layer_table(plans: Mapping[str, LayerPlan], layers: Mapping[str, Any]) -> str:
    head = (
        *("layer", "naive error", "error", "sensitivity"),
        *("smoothing", "clip", "outlier channels", "scale"),
    )
    rows = [
        (
            plan.name,
            f"{plan.naive_error:.2e}",
            f"{plan.error:.2e}",
            f"{layers[plan.name]['sensitivity']:.2e}",
            plan.alpha,
            plan.clip,
            " ".join(str(channel) for channel in plan.outlier_channels),
            f"{plan.scale:.4g}",
        )
        for plan in plans.values()
    ]
    return table(head, rows)


def _error_plot(plans: Mapping[str, LayerPlan]) -> str:
    figure = Figure(figsize=(9, 0.22 * len(plans) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = list(range(len(plans)))
    axes.barh(
        [place + 0.2 for place in places],
        [max(plan.naive_error, _LEAST_SHOWN) for plan in plans.values()],
        height=0.4,
        color="#c8553d",
        label="naive",
    )
    axes.barh(
        [place - 0.2 for place in places],
        [max(plan.error, _LEAST_SHOWN) for plan in plans.values()],
        height=0.4,
        color="#588b8b",
        label="chosen",
    )
    axes.set_yticks(places, list(plans), fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("squared error of the layer's output, relative")
    axes.legend()
    return svg(figure)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, str(value)))
    return rows
