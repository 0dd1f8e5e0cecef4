"""Unit tests of train.loop.loop, on a regression that takes milliseconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bert_rt.errors import ConfigError, InputError, TrainingError
from tests.support.toy_task.objective import ToyObjective, make_model, read_weights
from train.loop import loop
from train.loop.journal import METRICS, read_metrics
from train.loop.loop import TrainResult
from train.loop.processes import Processes
from train.loop.state import find_checkpoint
from train.options import TrainOptions

_ALONE = Processes(rank=0, count=1, device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds that measuring the machine takes."""
    monkeypatch.setattr(loop, "matmul_rate", lambda device, dtype: 1e12)


def options(**values: Any) -> TrainOptions:
    defaults = {"learning_rate": 0.05, "precision": "fp32", "logging_steps": 1, "save_steps": 0}
    return TrainOptions(**{**defaults, **values})


def run(
    directory: Path, objective: ToyObjective, *, resume_from: Path | None = None, **values: Any
) -> TrainResult:
    model = make_model()
    if resume_from is not None:
        model.load_state_dict(read_weights(resume_from))
    return loop.train(
        model,
        objective,
        options(**values),
        directory,
        _ALONE,
        fingerprint={"task": "toy"},
        resume_from=resume_from,
    )


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def on_micro_batch(index: int, act: Callable[[], object]) -> Callable[[int], object]:
    return lambda made: act() if made == index else None


def test_a_run_learns_and_says_how_it_ended(tmp_path: Path) -> None:
    objective = ToyObjective(scores=(0.9,))
    result = run(tmp_path, objective, max_steps=60, learning_rate=0.2)
    assert (result.is_finished, result.step, result.num_tokens) == (True, 60, 240)
    assert (result.scores, result.best_score, result.best_step) == ({"r2": 0.9}, 0.9, 60)
    losses = [line["loss"] for line in read_metrics(tmp_path / METRICS) if "loss" in line]
    assert len(losses) == 60
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 2), (1, 4)])
def test_accumulation_is_a_larger_batch(tmp_path: Path, batch_size: int, accumulation: int) -> None:
    run(tmp_path / "whole", ToyObjective(batch_size=4), max_steps=8)
    parts = ToyObjective(batch_size=batch_size)
    run(tmp_path / "parts", parts, max_steps=8, gradient_accumulation_steps=accumulation)
    # One ahead of the last one that a step took.
    assert parts.made == list(range(8 * accumulation + 1))
    whole, accumulated = (read_weights(tmp_path / name) for name in ("whole", "parts"))
    for name, tensor in whole.items():
        torch.testing.assert_close(accumulated[name], tensor, rtol=1e-5, atol=1e-6)
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / name / METRICS) if "loss" in line]
        for name in ("whole", "parts")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_run_that_a_signal_stopped_goes_on_to_the_bit(
    tmp_path: Path, number: int, accumulation: int
) -> None:
    ends = {"max_steps": 10, "gradient_accumulation_steps": accumulation}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, ToyObjective(), **ends)

    stop = on_micro_batch(4 * accumulation, lambda: os.kill(os.getpid(), number))
    stopped = run(broken, ToyObjective(before=stop), **ends)
    assert not stopped.is_finished
    assert 3 <= stopped.step <= 6
    checkpoint = find_checkpoint(broken)
    assert checkpoint is not None
    assert not (broken / "weights.pt").exists()

    resumed = ToyObjective()
    result = run(broken, resumed, resume_from=checkpoint, **ends)
    assert (result.is_finished, result.step, result.num_tokens) == (True, 10, 40 * accumulation)
    assert resumed.made[0] == stopped.step * accumulation
    assert same(read_weights(whole), read_weights(broken))
    lines = [
        [(line["step"], line["loss"]) for line in read_metrics(path / METRICS) if "loss" in line]
        for path in (whole, broken)
    ]
    assert lines[0] == lines[1]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "a", ToyObjective(), max_steps=2)
    checkpoint = find_checkpoint(tmp_path / "a")
    with pytest.raises(TrainingError, match=r"seed: got 1, but .* was trained with 0"):
        run(tmp_path / "a", ToyObjective(), max_steps=4, seed=1, resume_from=checkpoint)


def test_checkpoints_come_in_time_and_the_oldest_go(tmp_path: Path) -> None:
    run(tmp_path, ToyObjective(), max_steps=7, save_steps=2, save_total_limit=2)
    names = [f"checkpoint-{step:08d}" for step in (6, 7)]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == names


def test_the_best_evaluation_s_model_is_kept(tmp_path: Path) -> None:
    objective = ToyObjective(scores=(0.1, 0.8, 0.3, 0.5))
    result = run(tmp_path, objective, max_steps=8, eval_steps=2)
    assert (result.best_score, result.best_step, result.scores) == (0.8, 4, {"r2": 0.5})
    short = run(tmp_path / "short", ToyObjective(), max_steps=8, eval_steps=0)
    assert short.best_score is None
    assert not same(read_weights(tmp_path), read_weights(tmp_path / "short"))
    scored = [line for line in read_metrics(tmp_path / METRICS) if "dev_r2" in line]
    assert [(line["step"], line["dev_r2"]) for line in scored] == [
        (2, 0.1),
        (4, 0.8),
        (6, 0.3),
        (8, 0.5),
    ]


@pytest.mark.parametrize(("patience", "last_step"), [(1, 6), (2, 8), (3, 12)], ids=str)
def test_patience_ends_a_run(tmp_path: Path, patience: int, last_step: int) -> None:
    objective = ToyObjective(scores=(0.1, 0.8, 0.3, 0.5, 0.9, 0.1))
    result = run(tmp_path, objective, max_steps=12, eval_steps=2, early_stopping_patience=patience)
    assert (result.is_finished, result.step) == (True, last_step)


def test_time_ends_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])

    def pass_time(_index: int) -> None:
        now[0] += 1.0

    result = run(tmp_path, ToyObjective(before=pass_time), max_minutes=0.2, max_steps=1000)
    assert result.is_finished
    assert result.elapsed_s >= 12.0
    assert 8 <= result.step <= 12  # seconds, less those that micro-batches are ahead
    rates = [line["learning_rate"] for line in read_metrics(tmp_path / METRICS) if "loss" in line]
    assert max(rates) <= 0.05
    assert rates[-1] < 0.5 * max(rates)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_a_run_with_its_checkpoints(
    tmp_path: Path, value: float
) -> None:
    objective = ToyObjective()
    objective.before = on_micro_batch(4, lambda: objective.y_B1.fill_(value))
    with pytest.raises(TrainingError, match=r"step \d: (loss|grad_norm) is (nan|inf)"):
        run(tmp_path, objective, max_steps=10, save_steps=2)
    checkpoint = find_checkpoint(tmp_path)
    assert checkpoint is not None
    assert all(tensor.isfinite().all() for tensor in read_weights(checkpoint).values())


def test_an_error_in_the_data_crosses_threads_and_leaves_none(tmp_path: Path) -> None:
    def fail() -> None:
        raise InputError("row 7: got nothing")

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(InputError, match="row 7"):
        run(tmp_path, ToyObjective(before=on_micro_batch(3, fail)), max_steps=10)
    assert len([line for line in read_metrics(tmp_path / METRICS) if "loss" in line]) == 3
    assert not [one for one in threading.enumerate() if one.name.startswith("micro-batches")]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    # Behind the end nobody asks for it.
    objective = ToyObjective(before=on_micro_batch(3, fail))
    assert run(tmp_path / "short", objective, max_steps=3).is_finished


def test_a_run_without_an_end_is_none() -> None:
    with pytest.raises(ConfigError, match="want it, num_train_epochs or max_minutes"):
        options()
