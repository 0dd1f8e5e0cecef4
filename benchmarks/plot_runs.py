"""Curves of several training runs in one picture, and how far each came on held-out data.

python benchmarks/plot_runs.py OUT.png NAME=RUN_DIR[,RUN_DIR...] NAME=RUN_DIR...

Runs of one name that differ in their seed are averaged step by step. For each held-out score the
last value is printed, at which step it first comes to the last value of the name given first, and
from which step on it stays there.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.loop.journal import METRICS, draw_curves, read_metrics


def mean_of(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Average the lines of several runs that stand at the same step and hold the same names."""
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        for line in run:
            lines.setdefault((line["step"], *sorted(line)), []).append(line)
    return [
        {name: statistics.fmean(line[name] for line in same) for name in same[0]}
        for same in lines.values()
        if len(same) == len(runs)
    ]


def points(lines: Sequence[dict[str, Any]], metric: str) -> list[tuple[float, float]]:
    """Return step and value of a metric."""
    return [(line["step"], line[metric]) for line in lines if metric in line]


def reached(curve: Sequence[tuple[float, float]], wanted: float) -> str:
    """Say at which step a curve first comes to a value, and after which it stays there."""
    first = next((step for step, value in curve if value >= wanted), None)
    if first is None:
        return "never"
    last_below = max((step for step, value in curve if value < wanted), default=-1)
    stays = next((step for step, _ in curve if step > last_below), None)
    held = "not held at the end" if stays is None else f"held from {stays:g}"
    return f"first at step {first:g}, {held}, of {curve[-1][0]:g}"


def main() -> None:
    """Draw what was logged of every run."""
    out, *named = sys.argv[1:]
    names = dict(item.split("=", 1) for item in named)
    runs = {
        name: [read_metrics(Path(path) / METRICS) for path in paths.split(",")]
        for name, paths in names.items()
    }
    curves = {name: mean_of(same) for name, same in runs.items()}
    draw_curves(Path(out), curves)
    base = next(iter(curves.values()))
    for metric in sorted({name for line in base for name in line if name.startswith("dev_")}):
        wanted = points(base, metric)[-1][1]
        for name, same in runs.items():
            curve = points(curves[name], metric)
            if not curve:
                continue
            ends = ", ".join(f"{points(run, metric)[-1][1]:.2f}" for run in same)
            print(f"{metric} {name}: end {curve[-1][1]:.2f} ({ends}); ", end="")
            print(f"{wanted:.2f} {reached(curve, wanted)}")


if __name__ == "__main__":
    main()
