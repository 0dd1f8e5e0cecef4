from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bert_rt.errors import InputError, TrainingError
from train.loop.rundir import check_run_dir, file_sha256, mark_run_dir
from train.loop.state import TrainerState, find_checkpoint, load_state, save_state
from train.optim.optimizers import AdamW, parameter_groups

FINGERPRINT = {"seed": 0, "task": "x"}


def make_optimizer(size: int = 3) -> AdamW:
    torch.manual_seed(0)
    model = nn.Linear(size, 2)
    optimizer = AdamW(parameter_groups(model, weight_decay=0.0), learning_rate=0.1)
    model(torch.ones(1, size)).sum().backward()
    optimizer.set_learning_rate(0.1)
    optimizer.step()
    return optimizer


def save(output_dir: Path, step: int, keep: int = 2) -> Path:
    state = TrainerState(step=step, num_tokens=7, fingerprint=FINGERPRINT)
    write = lambda path: (path / "model").write_text(str(step))  # noqa: E731
    return save_state(output_dir, state, make_optimizer(), write, keep=keep)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 20, 3000):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-00000020",
        "checkpoint-00003000",
    ]
    found = find_checkpoint(tmp_path)
    assert found is not None
    assert (found / "model").read_text() == "3000"
    assert find_checkpoint(tmp_path / "absent") is None


def test_state_and_means_come_back(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    first, second = make_optimizer(), make_optimizer()
    for state in second.state.values():
        state.clear()
    state = load_state(path, second, FINGERPRINT)
    assert (state.step, state.num_tokens) == (1, 7)
    for old, new in zip(first.state.values(), second.state.values(), strict=True):
        assert torch.equal(old["exp_avg"], new["exp_avg"])
        assert torch.equal(old["exp_avg_sq"], new["exp_avg_sq"])
    assert all(group["num_steps"] == 1 for group in second.param_groups)


def test_a_checkpoint_that_does_not_know_its_last_scoring_owes_none(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    raw = json.loads((path / "trainer_state.json").read_text())
    del raw["evaluated_step"]
    (path / "trainer_state.json").write_text(json.dumps(raw))
    assert load_state(path, make_optimizer(), FINGERPRINT).evaluated_step == 7


def test_another_runs_checkpoint_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    with pytest.raises(TrainingError, match=r"seed: got 1, but .* was trained with 0"):
        load_state(path, make_optimizer(), {"seed": 1, "task": "x"})
    with pytest.raises(TrainingError, match="no exp_avg of weight in its shape"):
        load_state(path, make_optimizer(4), FINGERPRINT)


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1)
    (path / name).write_bytes((path / name).read_bytes()[:-9])
    with pytest.raises(TrainingError, match=rf"{name}: cannot be read"):
        load_state(path, make_optimizer(), FINGERPRINT)


def test_a_failing_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def fail(_: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_state(tmp_path, TrainerState(step=2), make_optimizer(), fail, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]


def test_a_run_that_had_nothing_to_lose_starts_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert check_run_dir(run, is_resumed=False) is None
    assert not run.exists()
    mark_run_dir(run)
    (run / "corpus").mkdir()
    assert check_run_dir(run, is_resumed=False) is None
    path = save(run, 4)
    (run / ".checkpoint-00000005.abc.tmp").mkdir()
    with pytest.raises(InputError, match="--resume continues it"):
        check_run_dir(run, is_resumed=False)
    assert check_run_dir(run, is_resumed=True) == path
    assert not (run / ".checkpoint-00000005.abc.tmp").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: cannot be read"):
        file_sha256(tmp_path / "absent")
