"""Tests of train.average."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert_rt.errors import ConfigError, TrainingError
from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import load_model
from bert_rt.text.tokenization import Tokenizer
from tests.support.checkpoints import edit_config
from tests.support.data.text import VOCAB
from tests.support.training import CONFIG, make_checkpoint
from train.average import average_checkpoints, main

TASK = "question-answering"


def models(tmp_path: Path, count: int = 2) -> list[Path]:
    return [make_checkpoint(tmp_path / f"m{seed}", TASK, seed=seed) for seed in range(count)]


def mark_start(directory: Path, start: str) -> None:
    """Make a checkpoint look like the output of a run that started from a checkpoint."""
    checkpoint = directory / "checkpoint-00000002"
    checkpoint.mkdir()
    state = {"step": 2, "evaluated_step": 0, "fingerprint": {"checkpoint_sha256": start}}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("weights", "shares"), [(None, (1 / 3, 1 / 3, 1 / 3)), ((1.0, 2.0, 5.0), (0.125, 0.25, 0.625))]
)
def test_every_parameter_is_the_weighted_mean(
    tmp_path: Path, weights: tuple[float, ...] | None, shares: tuple[float, ...]
) -> None:
    directories = models(tmp_path, 3)

    average_checkpoints(directories, tmp_path / "average", weights=weights)

    parts = [load_file(path / "model.safetensors") for path in directories]
    got = load_file(tmp_path / "average" / "model.safetensors")
    assert set(got) == set(parts[0])
    for name, tensor in got.items():
        want = sum(share * part[name].double() for share, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(tensor, want.float(), rtol=0, atol=1e-7)
    loaded = load_model(tmp_path / "average")
    assert loaded.task == TASK
    assert loaded.new_keys == loaded.unused_keys == ()
    files = [
        (path / "tokenizer.json").read_bytes() for path in (directories[0], tmp_path / "average")
    ]
    assert files[0] == files[1]


def test_every_file_of_the_tokenizer_is_kept(tmp_path: Path) -> None:
    directories = models(tmp_path)
    added = json.dumps({"covid19": CONFIG.vocab_size - 1}).encode()
    for directory in directories:
        content = json.loads((directory / "tokenizer.json").read_bytes())
        del content["model"]["vocab"][VOCAB[-1]]
        (directory / "tokenizer.json").write_text(json.dumps(content))
        (directory / "added_tokens.json").write_bytes(added)
    average_checkpoints(directories, tmp_path / "average")
    assert (tmp_path / "average" / "added_tokens.json").read_bytes() == added
    tokenizer = Tokenizer.from_directory(tmp_path / "average")
    assert tokenizer.encode("covid19").input_ids.tolist() == [CONFIG.vocab_size - 1]
    (directories[1] / "added_tokens.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer of .*: token 'covid19' has the id None"):
        average_checkpoints(directories, tmp_path / "other")


def test_equal_models_average_to_themselves(tmp_path: Path) -> None:
    (directory,) = models(tmp_path, 1)
    average_checkpoints([directory] * 3, tmp_path / "average")
    contents = [
        (path / "model.safetensors").read_bytes() for path in (directory, tmp_path / "average")
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), "weights: got 1, want one for each of the 2 models"),
        ((1.0, 0.0), "weights: got 0, want numbers above 0"),
        ((1.0, float("nan")), "weights: got nan, want numbers above 0"),
    ],
)
def test_weights_that_are_none_are_refused(
    tmp_path: Path, weights: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        average_checkpoints(models(tmp_path), tmp_path / "average", weights=weights)


def test_models_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    first, second = models(tmp_path)
    other_task = make_checkpoint(tmp_path / "other", "text-classification")
    with pytest.raises(
        ConfigError, match=r"task of .*other: got text-classification, but .*m0 has"
    ):
        average_checkpoints([first, other_task], tmp_path / "average")
    edit_config(second, layer_norm_eps=1e-5)
    with pytest.raises(ConfigError, match=r"architecture of .*m1"):
        average_checkpoints([first, second], tmp_path / "average")
    labels = [tmp_path / "negative-first", tmp_path / "positive-first"]
    for directory, names in zip(labels, (("no", "yes"), ("yes", "no")), strict=True):
        shutil.copytree(other_task, directory)
        edit_config(directory, id2label=dict(zip("01", names, strict=True)))
    with pytest.raises(ConfigError, match=r"labels of .*positive-first: got .*'yes', 'no'"):
        average_checkpoints(labels, tmp_path / "average")
    assert not (tmp_path / "average").exists()


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    first, second = models(tmp_path)
    (second / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(ConfigError, match=r"tokenizer of .*m1 is another than .*m0's"):
        average_checkpoints([first, second], tmp_path / "average")


def test_runs_from_different_starts_are_refused(tmp_path: Path) -> None:
    first, second = models(tmp_path)
    mark_start(first, "a")
    average_checkpoints([first, second], tmp_path / "unknown")
    mark_start(second, "b")
    with pytest.raises(
        ConfigError, match=r"m0 and .*m1 were fine-tuned from different checkpoints"
    ):
        average_checkpoints([first, second], tmp_path / "average")


def test_the_command_writes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (str(path) for path in models(tmp_path))
    output_dir = tmp_path / "average"
    argv = ["--models", first, second, "--weights", "3", "1", "--output_dir", str(output_dir)]

    assert run_command(main, argv) == 0

    assert "the average of 2 models" in capsys.readouterr().out
    average_checkpoints([Path(first), Path(second)], tmp_path / "same", weights=(0.75, 0.25))
    written = [path / "model.safetensors" for path in (output_dir, tmp_path / "same")]
    assert written[0].read_bytes() == written[1].read_bytes()
    assert run_command(main, argv) == 2
    assert "average is there and no empty directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models_given", "output_name", "message"),
    [
        (["m0"], "out", "models: got 1, want at least 2"),
        (["m0", "nowhere"], "out", "nowhere: no such directory"),
        (["m0", "m1"], "m0", "m0 is there and no empty directory"),
        (["m0", "m1"], "file", "file is there and no empty directory"),
    ],
)
def test_bad_directories_are_named_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    models_given: list[str],
    output_name: str,
    message: str,
) -> None:
    models(tmp_path)
    (tmp_path / "file").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    argv = ["--models", *(str(tmp_path / name) for name in models_given)]
    assert run_command(main, [*argv, "--output_dir", str(tmp_path / output_name)]) == 2
    assert message in capsys.readouterr().err
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_damaged_trainer_state_is_named(tmp_path: Path) -> None:
    first, second = models(tmp_path)
    mark_start(first, "a")
    (first / "checkpoint-00000002" / "trainer_state.json").write_text("{")
    with pytest.raises(TrainingError, match=r"m0.*trainer_state.json: cannot be read"):
        average_checkpoints([first, second], tmp_path / "average")
