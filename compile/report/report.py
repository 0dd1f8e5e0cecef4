"""report.html: what was fused, what was quantized, how far each layer moved, the verdict."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from compile.int8.search import LayerPlan
from compile.report.changes import ChangedAnswer
from compile.report.markup import between, svg, table
from compile.report.reliability import render_confidence

__all__ = ["render_report"]

# A logarithmic axis has no place for 0, and less than float32 resolves is nothing.
_LEAST_SHOWN = 1e-14
# Changed answers listed of one engine; a page for people, not an archive.
_MAX_CHANGES = 20
_CHANGED_ANSWERS = ("question", "float's answer", "F1", "INT8's answer", "F1")
_CHANGED_CLASSES = ("text", "float's class", "right, %", "INT8's class", "right, %")

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
    bars: Mapping[str, float],
    changes: Mapping[str, Sequence[ChangedAnswer]],
    quantization: Mapping[str, Any],
) -> bytes:
    """Write the report of one compile.

    Args:
        title: What was compiled.
        fusions: Rule name to number of rewrites.
        provenance: The manifest's provenance.
        receipt: The manifest's receipt, or None where no evaluation file was given.
        plans: Layer name to quantization; empty for a float artifact.
        bars: What the gate wanted: "min_f1_ratio" and "max_f1_loss".
        changes: Engine name to the answers that INT8 changed on it, worst first.
        quantization: The manifest's: sensitivities, and the layers that stay in float.

    Returns:
        One HTML page, UTF-8, which loads nothing from elsewhere.
    """
    parts = ["<h2>Accuracy</h2>", _accuracy(receipt, bars)]
    if receipt is not None and "score_calibration" in receipt["float"]:
        parts += ["<h2>Confidence</h2>", render_confidence(receipt, provenance)]
    if changes:
        parts += ["<h2>Changed answers</h2>"]
        is_classifier = receipt is not None and "accuracy" in receipt["float"]
        head = _CHANGED_CLASSES if is_classifier else _CHANGED_ANSWERS
        parts += [_change_table(engine, changed, head) for engine, changed in changes.items()]
    parts += ["<h2>Fusions</h2>", table(("rule", "rewrites"), list(fusions.items()))]
    if plans:
        parts += ["<h2>Quantized layers</h2>", _explain_errors(), _error_plot(plans)]
        parts += [_layer_table(plans, quantization["layers"]), _float_layers(quantization)]
    parts += ["<h2>Provenance</h2>", table(("what", "value"), _flat(provenance))]
    page = _PAGE.format(title=html.escape(title), body="\n".join(parts))
    return page.encode()


def _accuracy(receipt: Mapping[str, Any] | None, bars: Mapping[str, float]) -> str:
    if receipt is None:
        return (
            "<p>Not measured: no evaluation file was given, so this artifact carries no promise. "
            "Compile with <code>--eval_file</code>.</p>"
        )
    if "accuracy" in receipt["float"]:
        return _class_accuracy(receipt, bars)
    dataset, how, scores = receipt["dataset"], receipt["intervals"], receipt["float"]
    figures = (between(scores["f1"], scores["f1_interval"]), scores["exact_match"])
    rows: list[Sequence[Any]] = [("float32", "onnxruntime", *figures, "", "", "")]
    int8 = receipt.get("int8", {})
    for engine, scores in int8.items():
        rows.append(
            (
                "int8",
                engine,
                between(scores["f1"], scores["f1_interval"]),
                scores["exact_match"],
                between(scores["f1_difference"], scores["f1_difference_interval"]),
                f"{scores['f1_ratio']:.2%}",
                between(
                    100 * scores["equal_answers"],
                    [100 * end for end in scores["equal_answers_interval"]],
                ),
            )
        )
    head = ("precision", "engine", "F1", "exact match", "F1 minus float's", "F1 over float's")
    # A model that the gate stops has no report, so what is told here has passed.
    wanted = (
        f"at least {bars['min_f1_ratio']:.2%} of float's F1 on every engine, and a loss of less "
        f"than {bars['max_f1_loss']:g} F1 at the interval's lower end"
    )
    verdict = f"<p>Gate: passed, {wanted}.</p>" if int8 else ""
    return (
        f"<p>All {dataset['total']} questions of <code>{html.escape(dataset['name'])}</code>. "
        f"In brackets {how['confidence']:.0%} intervals, from {how['num_resamples']} resamples of "
        f"its {how['num_clusters']} passages.</p>"
        + table((*head, "answers equal, %"), rows)
        + verdict
    )


def _class_accuracy(receipt: Mapping[str, Any], bars: Mapping[str, float]) -> str:
    """Tell a text classifier's accuracy."""
    dataset, how, scores = receipt["dataset"], receipt["intervals"], receipt["float"]
    figures = (between(scores["accuracy"], scores["accuracy_interval"]), scores["macro_f1"])
    rows: list[Sequence[Any]] = [("float32", "onnxruntime", *figures, "", "", "")]
    int8 = receipt.get("int8", {})
    for engine, scores in int8.items():
        rows.append(
            (
                "int8",
                engine,
                between(scores["accuracy"], scores["accuracy_interval"]),
                scores["macro_f1"],
                between(scores["accuracy_difference"], scores["accuracy_difference_interval"]),
                f"{scores['accuracy_ratio']:.2%}",
                f"{scores['equal_labels']:.2%}",
            )
        )
    head = ("precision", "engine", "accuracy", "macro F1", "minus float's", "over float's")
    wanted = (
        f"at least {bars['min_accuracy_ratio']:.2%} of float's accuracy on every engine, and a "
        f"loss of less than {bars['max_accuracy_loss']:g} points at the interval's lower end"
    )
    verdict = f"<p>Gate: passed, {wanted}.</p>" if int8 else ""
    return (
        f"<p>All {dataset['total']} texts of <code>{html.escape(dataset['name'])}</code>. In "
        f"brackets {how['confidence']:.0%} intervals, from {how['num_resamples']} resamples.</p>"
        + table((*head, "equal classes"), rows)
        + verdict
    )


def _change_table(engine: str, changes: Sequence[ChangedAnswer], head: Sequence[str]) -> str:
    worse = sum(change.int8_f1 < change.float_f1 for change in changes)
    better = sum(change.int8_f1 > change.float_f1 for change in changes)
    shown = changes[:_MAX_CHANGES]
    rows = [
        (
            change.question,
            change.float_text or "(no answer)",
            100 * change.float_f1,
            change.int8_text or "(no answer)",
            100 * change.int8_f1,
        )
        for change in shown
    ]
    told = (
        f"<p>{html.escape(engine)}: {len(changes)} answers differ from float's; {worse} score "
        f"less, {better} more. Shown: {len(shown)}, the largest losses first.</p>"
    )
    return told + (table(head, rows) if rows else "")


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
    told = (
        f"<p>Judged on {held_out['total']} examples of the calibration file that were set aside: "
        f"{html.escape(held_out['verdict'])}.</p>"
        if held_out["total"]
        else "<p>Not judged before the evaluation: no example could be set aside.</p>"
    )
    rows = [(name, f"{error:.2e}") for name, error in quantization["float_layers"].items()]
    if not rows:
        return told + "<p>Every layer of the encoder is INT8.</p>"
    return told + "<p>These layers stay in float:</p>" + table(("layer", "sensitivity"), rows)


def _layer_table(plans: Mapping[str, LayerPlan], told: Mapping[str, Any]) -> str:
    head = (
        *("layer", "naive error", "error", "sensitivity"),
        *("smoothing", "clip", "outlier channels", "scale"),
    )
    rows = [
        (
            plan.name,
            f"{plan.naive_error:.2e}",
            f"{plan.error:.2e}",
            f"{told[plan.name]['sensitivity']:.2e}",
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
