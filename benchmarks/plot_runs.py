"""Curves of several training runs in one picture.

python benchmarks/plot_runs.py OUT.png NAME=RUN_DIR NAME=RUN_DIR...
"""

from __future__ import annotations

import sys
from pathlib import Path

from train.journal import METRICS, draw_curves, read_metrics


def main() -> None:
    """Draw what was logged of every run."""
    out, *named = sys.argv[1:]
    runs = dict(item.split("=", 1) for item in named)
    draw_curves(
        Path(out), {name: read_metrics(Path(path) / METRICS) for name, path in runs.items()}
    )


if __name__ == "__main__":
    main()
