"""What people see of a run: metrics.jsonl, TensorBoard events, curves.png and words of warning."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.support.files import atomic_write_bytes

__all__ = ["Journal", "diagnose", "draw_curves", "read_metrics"]

METRICS = "metrics.jsonl"
CURVES = "curves.png"
# A share of the run after which a loss that has not moved is worth a word.
_PATIENCE = 0.25
_MIN_LINES = 5
_NO_CURVES = frozenset(("step", "elapsed_s", "epoch", "num_tokens"))


class Journal:
    """Writes the metrics of a run, a line at a time."""

    def __init__(self, output_dir: Path, *, resumed_step: int = 0, evaluated_step: int = 0) -> None:
        """Open the journal.

        Args:
            output_dir: The run's directory.
            resumed_step: Lines after this step are of a run that is done again, and dropped; 0
                starts anew.
            evaluated_step: Scores after this step are measured again, and dropped, too.
        """
        self._path = output_dir / METRICS
        self.lines = [
            line
            for line in read_metrics(self._path)
            if line["step"] <= (resumed_step if "loss" in line else evaluated_step)
        ]
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        atomic_write_bytes(self._path, text.encode())
        self._output_dir = output_dir
        self._board: Any = None
        self._purge_step = resumed_step + 1

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl and to TensorBoard.

        Args:
            line: "step", and numbers by name.
        """
        self.lines.append(dict(line))
        with self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        if self._board is None:
            # Made with the first line: it takes seconds to import.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(
                str(self._output_dir / "tensorboard"), purge_step=self._purge_step
            )
        for name, value in line.items():
            if name != "step":
                self._board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Draw curves.png and close the events."""
        draw_curves(self._output_dir / CURVES, {self._output_dir.name: self.lines})
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl.

    Args:
        path: The file.

    Returns:
        Its lines; none where there is no file. A last line that a crash cut off is left out.
    """
    if not path.is_file():
        return []
    *whole, _cut_off = path.read_text(encoding="ascii").split("\n")
    return [json.loads(line) for line in whole]


def diagnose(
    losses: Sequence[float], progress: float, warmup_ratio: float, trivial_loss: float | None
) -> str | None:
    """Say in words what is wrong with a run's losses.

    Args:
        losses: The means of the logged windows so far, in nats.
        progress: Share of the run that is done.
        warmup_ratio: Share of the run in which the learning rate rises.
        trivial_loss: Loss of a model that knows only how frequent each target is.

    Returns:
        A sentence, or None where nothing is wrong.
    """
    if len(losses) < _MIN_LINES:
        return None
    recent = sum(losses[-3:]) / 3
    best = min(sum(losses[i : i + 3]) / 3 for i in range(len(losses) - 2))
    if recent > 1.3 * best + 0.3:
        return (
            f"the loss has risen from {best:.3g} to {recent:.3g}: the learning rate is probably "
            "too high"
        )
    if trivial_loss is not None and progress > warmup_ratio + _PATIENCE:
        if recent > 1.03 * trivial_loss:
            return (
                f"the loss of {recent:.3g} is above {trivial_loss:.3g}, that of guessing by "
                "frequency: the learning rate is probably too high, or the labels are wrong"
            )
        if recent > 0.97 * trivial_loss:
            return (
                f"the loss sits at {trivial_loss:.3g}, that of guessing by frequency: the model "
                "has not started to learn; try another learning rate or a longer warm-up"
            )
    return None


def draw_curves(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Plot what was logged of one or several runs, side by side.

    Args:
        path: The PNG file.
        runs: Lines of metrics.jsonl by the run's name.
    """
    import io

    from matplotlib.figure import Figure

    curves = _curves(runs)
    if not curves:
        return
    rows = math.ceil(len(curves) / 3)
    figure = Figure(figsize=(12, 2.8 * rows), layout="constrained")
    for position, (name, by_run) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, min(3, len(curves)), position + 1)
        for run, points in by_run.items():
            axes.plot(*zip(*points, strict=True), label=run, linewidth=1, marker=".", ms=2)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    if len(runs) > 1:
        figure.axes[0].legend(fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    atomic_write_bytes(path, image.getvalue())


def _curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return points of step and value by metric and run; what was measured once is no curve."""
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run, lines in runs.items():
        for line in lines:
            for name, value in line.items():
                if name not in _NO_CURVES:
                    curves.setdefault(name, {}).setdefault(run, []).append((line["step"], value))
    return {
        name: by_run
        for name, by_run in curves.items()
        if max(len(points) for points in by_run.values()) > 1
    }
