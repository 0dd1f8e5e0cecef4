"""The part of report.html on scores: how often answers are right that are sure of themselves."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from compile.judge.receipt import float_engine
from compile.report.markup import svg, table

__all__ = ["render_confidence"]

_COLORS = {"before": "#c8553d", "after": "#588b8b"}


def render_confidence(receipt: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Tell how true scores are, before and after the temperature.

    Args:
        receipt: The manifest's, with "score_calibration" for float and every engine.
        provenance: The manifest's; "score_calibration" says what the temperature was fitted on.

    Returns:
        HTML: where the temperature comes from, a table, and a reliability diagram.
    """
    models = [("float32", float_engine(), receipt["float"]["score_calibration"])]
    models += [
        ("int8", engine, scores["score_calibration"])
        for engine, scores in receipt.get("int8", {}).items()
    ]
    rows = [
        (
            precision,
            engine,
            float(calibration["score_temperature"]),
            *(100 * calibration[name]["expected_calibration_error"] for name in _COLORS),
        )
        for precision, engine, calibration in models
    ]
    head = ("precision", "engine", "temperature", "calibration error before, %", "after, %")
    return (
        _explain(provenance.get("score_calibration"))
        + "<p>Calibration error: mean distance between what scores say and how often what they are "
        "of is right, over 15 bins of equal width, on the evaluation file.</p>"
        + table(head, rows)
        + _diagram(models)
    )


def _explain(fitted: Mapping[str, Any] | None) -> str:
    """Say where the temperature comes from."""
    if fitted is None:
        return "<p>No temperature was fitted: there were no examples to fit it on.</p>"
    where = html.escape(fitted["data"])
    text = (
        f"<p>Raw scores are divided by a temperature of {fitted['score_temperature']:.3f}, for "
        f"{fitted['total']} examples of <code>{where}</code>: {html.escape(fitted['verdict'])}, "
        f"log loss {fitted['log_loss_at_one']:.4f} before, {fitted['log_loss']:.4f} after.</p>"
    )
    if fitted["data"] == "calibration_file":
        text += (
            "<p>The model may have been trained on these examples. Then it is surer of them than "
            "of others, the temperature is too low, and scores stay too high; "
            "<code>--score_calibration_file</code> takes examples that it was not trained on.</p>"
        )
    return text


def _diagram(models: Sequence[tuple[str, str, Mapping[str, Any]]]) -> str:
    figure = Figure(figsize=(3 * len(models), 3.2), layout="constrained")
    places = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for axes, (precision, engine, calibration) in zip(places, models, strict=True):
        axes.plot([0, 1], [0, 1], color="#999", linewidth=0.8, linestyle="--")
        for name, color in _COLORS.items():
            bins = [
                point
                for *point, count in zip(
                    calibration[name]["mean_score"],
                    calibration[name]["accuracy"],
                    calibration[name]["num_examples"],
                    strict=True,
                )
                if count
            ]
            axes.plot(
                [score for score, _ in bins],
                [accuracy for _, accuracy in bins],
                marker="o",
                markersize=3,
                color=color,
                label=name,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="score")
        axes.set_title(f"{precision}, {engine}", fontsize=9)
    places[0].set_ylabel("share that is right")
    places[0].legend(fontsize=8)
    return svg(figure)
