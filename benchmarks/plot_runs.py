"""Curves of several training runs in one picture, and how far each came on held-out data.

python benchmarks/plot_runs.py OUT.png NAME=RUN_DIR[,RUN_DIR...] NAME=RUN_DIR...

Runs of one name that differ in their seed are averaged step by step. For each held-out score the
last value is printed, and from which step on every later value reaches the first name's last one.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.journal import METRICS, draw_curves, read_metrics

_HELD_OUT = "dev_"


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
    held_out = {metric for line in next(iter(curves.values())) for metric in line}
    for metric in sorted(m for m in held_out if m.startswith(_HELD_OUT)):
        wanted = points(next(iter(curves.values())), metric)[-1][1]
        for name, same in runs.items():
            ends = [points(run, metric)[-1][1] for run in same]
            below = [step for step, value in points(curves[name], metric) if value < wanted]
            steps = [step for step, _ in points(curves[name], metric)]
            first = next((s for s, value in points(curves[name], metric) if value >= wanted), None)
            stays = next((step for step in steps if step > max(below, default=-1)), None)
            told = ", ".join(f"{end:.2f}" for end in ends)
            print(
                f"{metric} {name}: end {statistics.fmean(ends):.2f} ({told}); {wanted:.2f} first "
                f"at step {first}, for good at {stays}, of {steps[-1]}"
            )


if __name__ == "__main__":
    main()
