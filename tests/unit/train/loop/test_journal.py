from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.loop.journal import Journal, diagnose, draw_curves, read_metrics


def test_lines_behind_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in (10, 20, 30):
        journal.write({"step": step, "loss": 1.0 / step})
    journal.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # as a crash leaves it
    journal = Journal(tmp_path, resumed_step=20)
    journal.write({"step": 30, "loss": 0.5})
    journal.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["loss"] == 0.5
    assert list((tmp_path / "tensorboard").iterdir())
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_scores_that_are_measured_again_are_dropped(tmp_path: Path) -> None:
    lines = [{"step": 10, "loss": 2.0}, {"step": 10, "dev_f1": 40.0}, {"step": 20, "loss": 1.0}]
    journal = Journal(tmp_path)
    for line in [*lines, {"step": 20, "dev_f1": 50.0}]:
        journal.write(line)
    assert Journal(tmp_path, resumed_step=20, evaluated_step=10).lines == lines


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_curves_of_two_runs(tmp_path: Path) -> None:
    lines = [json.loads('{"step": 1, "loss": 2.0}'), {"step": 2, "loss": 1.0, "dev_f1": 50.0}]
    draw_curves(tmp_path / "both.png", {"one": lines, "two": lines})
    assert (tmp_path / "both.png").stat().st_size > 1000


def test_what_was_measured_once_is_no_curve(tmp_path: Path) -> None:
    draw_curves(tmp_path / "none.png", {"one": [{"step": 2, "dev_f1": 50.0}]})
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    ("losses", "progress", "want"),
    [
        ([5.0] * 3, 0.9, None),
        ([7.0, 6.0, 5.0, 4.0, 3.0, 2.0], 0.9, None),
        ([7.0, 6.0, 5.0, 5.9, 6.1, 6.9, 8.0, 9.0], 0.2, "the loss has risen"),
        ([6.6, 6.5, 6.5, 6.5, 6.5], 0.5, "has not started to learn"),
        ([6.6, 6.5, 6.5, 6.5, 6.5], 0.1, None),
        ([7.2, 7.1, 7.1, 7.2, 7.1], 0.5, "above 6.5, that of guessing"),
    ],
)
def test_words_of_warning(losses: list[float], progress: float, want: str | None) -> None:
    message = diagnose(losses, progress, 0.06, 6.5)
    assert (message is None) if want is None else want in (message or "")
