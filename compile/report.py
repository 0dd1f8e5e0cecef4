"""report.html: what was fused, what was quantized, how far each layer moved, the verdict."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from compile.search import LayerPlan

__all__ = ["render_report"]

# A logarithmic axis has no place for 0, and less than float32 resolves is nothing.
_LEAST_SHOWN = 1e-14

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
    min_f1_ratio: float,
) -> bytes:
    """Write the report of one compile.

    Args:
        title: What was compiled.
        fusions: Rule name to number of rewrites.
        provenance: The manifest's provenance.
        receipt: The manifest's receipt, or None where no evaluation file was given.
        plans: Layer name to quantization; empty for a float artifact.
        min_f1_ratio: Least INT8 F1 over float F1 that the gate let pass.

    Returns:
        One HTML page, UTF-8, which loads nothing from elsewhere.
    """
    parts = ["<h2>Accuracy</h2>", _accuracy(receipt, min_f1_ratio)]
    parts += ["<h2>Fusions</h2>", _table(("rule", "rewrites"), list(fusions.items()))]
    if plans:
        parts += ["<h2>Quantized layers</h2>", _explain_errors(), _error_plot(plans)]
        parts += [_layer_table(plans)]
    parts += ["<h2>Provenance</h2>", _table(("what", "value"), _flat(provenance))]
    page = _PAGE.format(title=html.escape(title), body="\n".join(parts))
    return page.encode()


def _accuracy(receipt: Mapping[str, Any] | None, min_f1_ratio: float) -> str:
    if receipt is None:
        return (
            "<p>Not measured: no evaluation file was given, so this artifact carries no promise. "
            "Compile with <code>--eval_file</code>.</p>"
        )
    dataset = receipt["dataset"]
    rows: list[Sequence[Any]] = [
        ("float32", "onnxruntime", receipt["float"]["f1"], receipt["float"]["exact_match"], "", "")
    ]
    int8 = receipt.get("int8", {})
    for engine, scores in int8.items():
        ratio, equal = scores["f1_ratio"], scores["equal_answers"]
        figures = (scores["f1"], scores["exact_match"])
        rows.append(("int8", engine, *figures, f"{ratio:.2%}", f"{equal:.2%}"))
    head = ("precision", "engine", "F1", "exact match", "F1 over float's", "answers equal")
    # A model that the gate stops has no report, so what is told here has passed.
    wanted = f"at least {min_f1_ratio:.2%} of float's F1 on every engine"
    verdict = f"<p>Gate: passed, {wanted}.</p>" if int8 else ""
    return (
        f"<p>All {dataset['total']} questions of <code>{html.escape(dataset['name'])}</code>.</p>"
        + _table(head, rows)
        + verdict
    )


def _explain_errors() -> str:
    return (
        "<p>Error: squared error of a layer's output over the output's square, on calibration "
        "text. <em>Naive</em>: one scale from the least to the greatest value, nothing else. "
        "<em>Chosen</em>: with the smoothing, clipping and outlier channels in the table.</p>"
    )


def _layer_table(plans: Mapping[str, LayerPlan]) -> str:
    head = ("layer", "naive error", "error", "smoothing", "clip", "outlier channels", "scale")
    rows = [
        (
            plan.name,
            f"{plan.naive_error:.2e}",
            f"{plan.error:.2e}",
            plan.alpha,
            plan.clip,
            " ".join(str(channel) for channel in plan.outlier_channels),
            f"{plan.scale:.4g}",
        )
        for plan in plans.values()
    ]
    return _table(head, rows)


def _error_plot(plans: Mapping[str, LayerPlan]) -> str:
    # The object interface: pyplot would look for a screen, and keep state between calls.
    with mpl.rc_context({"svg.hashsalt": "bert-rt", "svg.fonttype": "none"}):
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
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"]
    lines += ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.2f}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{html.escape(str(value))}</td>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, str(value)))
    return rows
