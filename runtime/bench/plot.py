"""The result as one picture: throughput and latency of every engine's best configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.bench.measure import ENGINE, SCOPES

__all__ = ["plot"]

_COLOURS = {ENGINE: "#9aa5b1", "text_to_answer": "#1f6feb"}
_LABELS = {ENGINE: "engine only", "text_to_answer": "text to answer"}


def plot(result: Mapping[str, Any], path: str | Path) -> None:
    """Draw the result.

    Args:
        result: What --json writes.
        path: The PNG to write.

    Raises:
        OSError: The file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in result["results"] if row["stage"] == "rounds"]
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    scopes = [scope for scope in SCOPES if any(row["scope"] == scope for row in rows)]
    figure, axes = plt.subplots(1, 2, figsize=(12, 1.6 + 0.75 * len(engines)), sharey=True)
    height = 0.8 / len(scopes)
    for index, scope in enumerate(scopes):
        mine = [row for row in rows if row["scope"] == scope]
        places = [place + index * height for place in range(len(engines))]
        fastest = [_best(mine, name, "sequences_per_second", most=True) for name in engines]
        values = [row["sequences_per_second"] for row in fastest]
        spans = [
            [row["sequences_per_second"] - row["sequences_per_second_low"] for row in fastest],
            [row["sequences_per_second_high"] - row["sequences_per_second"] for row in fastest],
        ]
        style = {"height": height, "color": _COLOURS[scope], "label": _LABELS[scope]}
        bars = axes[0].barh(places, values, xerr=spans, ecolor="#444", **style)
        axes[0].bar_label(bars, [f"{value:.0f}" for value in values], padding=6, fontsize=8)
        quickest = [_best(mine, name, "p50_ms", most=False) for name in engines]
        p50 = [row["p50_ms"] for row in quickest]
        tails = [[0.0] * len(p50), [row["p99_ms"] - row["p50_ms"] for row in quickest]]
        bars = axes[1].barh(places, p50, xerr=tails, ecolor="#444", **style)
        axes[1].bar_label(bars, [f"{value:.1f}" for value in p50], padding=6, fontsize=8)
    axes[0].set_yticks([place + 0.4 - height / 2 for place in range(len(engines))], engines)
    axes[0].invert_yaxis()
    axes[0].set_title("Throughput, sequences/s (line: least to greatest round)", fontsize=10)
    axes[1].set_title("Single request, ms (bar: p50, line: to p99)", fontsize=10)
    axes[0].legend(loc="lower right", fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    machine = result["machine"]
    subtitle = f"{machine['cpu']}, {machine['num_threads']} threads, {machine['date'][:10]}"
    figure.suptitle(f"{result['title']}: each engine's best configuration\n{subtitle}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _best(rows: list[Any], engine: str, key: str, *, most: bool) -> Any:
    mine = [row for row in rows if row["engine"] == engine]
    return (max if most else min)(mine, key=lambda row: row[key])
