"""Unit tests of train.loop.rundir: whose a directory is, and what a failed run leaves in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_rt.errors import InputError
from train.loop.journal import METRICS
from train.loop.loop import TrainResult
from train.loop.rundir import check_run_dir, mark_run_dir, run_directory, summarize


def fail_in(
    output_dir: Path, *, kind: type[BaseException] = RuntimeError, metrics: str = ""
) -> None:
    def run() -> None:
        with run_directory(output_dir):
            mark_run_dir(output_dir)
            (output_dir / METRICS).write_text(metrics)
            raise kind

    with pytest.raises(kind):
        run()


@pytest.mark.parametrize("kind", [RuntimeError, InputError, KeyboardInterrupt])
def test_a_run_that_wrote_nothing_leaves_no_directory(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    fail_in(tmp_path / "a" / "b" / "run", kind=kind)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_was_written_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    fail_in(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    fail_in(tmp_path / "new" / "run", metrics="{}\n")
    assert (tmp_path / "new" / "run" / METRICS).read_text() == "{}\n"


def test_whose_directory_it_is(tmp_path: Path) -> None:
    assert check_run_dir(tmp_path / "new", is_resumed=False) is None
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is not a directory"):
        check_run_dir(tmp_path / "file", is_resumed=True)
    for is_resumed in (False, True):
        with pytest.raises(InputError, match="is not empty and holds no run"):
            check_run_dir(tmp_path, is_resumed=is_resumed)


def test_a_run_is_continued_when_that_is_asked_for(tmp_path: Path) -> None:
    mark_run_dir(tmp_path)
    (tmp_path / METRICS).write_text("{}\n")
    with pytest.raises(InputError, match="--resume continues it"):
        check_run_dir(tmp_path, is_resumed=False)
    assert check_run_dir(tmp_path, is_resumed=True) is None  # from its first step
    checkpoint = tmp_path / "checkpoint-00000003"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text("{}")
    half = tmp_path / ".checkpoint-00000004.0123.tmp"
    half.mkdir()
    assert check_run_dir(tmp_path, is_resumed=True) == checkpoint
    assert not half.exists()


def test_how_a_run_ended(tmp_path: Path) -> None:
    result = TrainResult(
        is_finished=True,
        step=1200,
        elapsed_s=90.0,
        num_tokens=1_800_000,
        scores={"f1": 88.123456},
        best_score=88.2,
        best_step=1000,
    )
    assert summarize(result, tmp_path).splitlines() == [
        "1200 steps, 1,800,000 tokens, 1.5 minutes, 20,000 tokens/s over all",
        "f1 88.12",
        f"{tmp_path}: the model after step 1000",
    ]
