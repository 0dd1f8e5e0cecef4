"""The tokenizers of pipelines: one that is passed, and the longest sequence that files say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import transformers

from bert_rt import pipeline
from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.checkpoint import read_config
from bert_rt.pipelines.loading import longest_input
from tests.golden.pipeline.pipeline_cases import write_checkpoint
from tests.support.families import FAMILIES


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with checkpoints, by name."""
    root = tmp_path_factory.mktemp("models")
    for name in ("squad", "three", "masked"):
        write_checkpoint(name, root / name)
    return root


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("tokenizer.json",)])
def test_a_tokenizer_of_transformers_is_compared_by_what_it_does(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    directory = tmp_path / "c"
    FAMILIES["roberta"].write_checkpoint(directory)
    given = transformers.AutoTokenizer.from_pretrained(directory)
    if names == ("tokenizer.json",):
        given.save_pretrained(directory)
        (directory / "vocab.json").unlink(missing_ok=True)
    assert all((directory / name).is_file() for name in names)
    pipeline("question-answering", directory, tokenizer=given).close()
    given.add_tokens(["covid19"])
    with pytest.raises(ConfigError, match=r"token 'covid19' has the id \d+, want None"):
        pipeline("question-answering", directory, tokenizer=given)


def no_limits() -> list[str]:
    """Return what stands in files for "no limit", and the model's own length."""
    huge = ["1000000000000000019884624838656", "1e30", "100000000000000000000"]
    return [*huge, "NaN", "Infinity", "-1", "null", "64", "65"]


@pytest.mark.parametrize("value", no_limits())
@pytest.mark.parametrize("name", ["model_max_length", "max_len"])
def test_a_length_that_means_no_limit(models: Path, name: str, value: str, tmp_path: Path) -> None:
    shutil.copytree(models / "three", tmp_path / "c")
    config, _ = read_config(tmp_path / "c")
    file = tmp_path / "c" / "tokenizer_config.json"
    file.write_text(f'{{"{name}": {value}}}')
    assert config.max_sequence_length == 64
    assert longest_input(tmp_path / "c", config) == 64
    with pipeline("text-classification", tmp_path / "c") as pipe:
        assert pipe("the cat " * 100, truncation=True)
    file.write_text(f'{{"{name}": 16.0}}')
    assert longest_input(tmp_path / "c", config) == 16


@pytest.mark.parametrize("value", ["0", "-2", "true", '"512"', "[512]", "0.5"])
def test_a_length_that_is_none_is_named(models: Path, value: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer_config.json"
    file.write_text(f'{{"model_max_length": {value}}}')
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: model_max_length: got"):
        longest_input(tmp_path, read_config(models / "three")[0])


@pytest.mark.parametrize("task", ["fill-mask", "question-answering", "text-classification"])
def test_what_save_pretrained_writes_loads(models: Path, task: str, tmp_path: Path) -> None:
    name = {"fill-mask": "masked", "question-answering": "squad"}.get(task, "three")
    shutil.copytree(models / name, tmp_path / "c")
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "c")
    saved.save_pretrained(tmp_path / "c")
    pipeline(task, tmp_path / "c").close()


@pytest.mark.parametrize("engine", ["torch"])
def test_the_reported_checkpoint_loads(shared_dir: Path, engine: str) -> None:
    with pipeline("text-classification", shared_dir / "cases" / "rob_saved", engine=engine) as pipe:
        assert pipe("good film")
