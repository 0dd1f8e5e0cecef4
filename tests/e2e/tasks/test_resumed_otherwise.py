"""A run that is resumed with other options, which would train another model: refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bert_rt.support.cli import run_command
from tests.support.data.corpora import write_text
from tests.support.data.translations import make_config, make_pairs
from tests.support.training import WINDOWS, make_checkpoint, make_squad
from train import finetune, pretrain

STEPS = ("--max_steps", "2", "--device", "cpu")


def run(command: ModuleType, argv: Sequence[object]) -> int:
    return run_command(command.main, [str(argument) for argument in argv])


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def summarization(place: Path) -> list[object]:
    row = {"source": ["The cat sat.", "Who is on the mat?"], "target": ["the cat"]}
    data = place / "train.jsonl"
    data.write_text((json.dumps(row) + "\n") * 8)
    limits = ("--max_seq_length", 40, "--max_sentences", 1)
    return ["--task", "summarization", "--train_file", data, *limits]


def question_answering(place: Path) -> list[object]:
    data = make_squad(place / "train.json", num_contexts=4)
    for seed in (1, 2):
        make_checkpoint(place / f"teacher-{seed}", "question-answering", seed=seed)
    flags = ("--teacher", place / "teacher-1", "--per_device_train_batch_size", 4)
    return ["--task", "question-answering", "--train_file", data, *WINDOWS, *flags]


def classification(place: Path) -> list[object]:
    data = place / "train.tsv"
    data.write_text("one\ttwo\tlabel\n" + "the cat\ton mat\t0\nwho is\tin paris\t1\n" * 8)
    columns = ("--text_column", "one", "--label_names", "no", "yes")
    limits = ("--max_seq_length", 40)
    return ["--task", "text-classification", "--train_file", data, *columns, *limits]


def translation(place: Path) -> list[object]:
    make_pairs(place / "pairs.jsonl", num_pairs=40)
    rows = [json.loads(line) for line in (place / "pairs.jsonl").read_text().splitlines()]
    data = place / "train.jsonl"
    lines = (json.dumps({"en": row["source"], "de": row["target"]}) for row in rows)
    data.write_text("\n".join(lines) + "\n")
    sizes = ("--source_vocab_size", 60, "--target_vocab_size", 60, "--decoder_layers", 1)
    languages = ("--source_lang", "en", "--target_lang", "de")
    ends = ("--max_seq_length", 40, "--batch_tokens", 200)
    make_config(place / "config.json")
    return ["--task", "translation", "--train_file", data, *sizes, *languages, *ends]


@pytest.mark.parametrize(
    ("make", "other", "message"),
    [
        (
            summarization,
            ["--sentence_labels", "soft"],
            "sentence_labels: got 'soft', but {} was trained with 'greedy'",
        ),
        (
            summarization,
            ["--rouge_temperature", "2"],
            "rouge_temperature: got 2.0, but {} was trained with 5.0",
        ),
        (question_answering, ["--teacher", "teacher-2"], "teacher_sha256: got '"),
        (
            question_answering,
            ["--temperature", "3"],
            "temperature: got 3.0, but {} was trained with 2.0",
        ),
        (
            classification,
            ["--text_column", "two"],
            "text_column: got 'two', but {} was trained with 'one'",
        ),
        (
            classification,
            ["--label_names", "bad", "good"],
            "label_names: got ['bad', 'good'], but {} was trained with ['no', 'yes']",
        ),
        (
            translation,
            ["--source_lang", "de", "--target_lang", "en"],
            "source_lang: got 'de', but {} was trained with 'en'",
        ),
        (
            translation,
            ["--label_smoothing", "0"],
            "label_smoothing: got 0.0, but {} was trained with 0.1",
        ),
    ],
)
def test_what_a_step_depends_on_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: object,
    other: list[str],
    message: str,
) -> None:
    assert callable(make)
    monkeypatch.chdir(tmp_path)
    argv = [*make(tmp_path), *STEPS, "--output_dir", tmp_path / "run"]
    start = tmp_path / "config.json"
    argv += ["--model_name_or_path", start if start.exists() else make_checkpoint(tmp_path / "m")]
    assert run(finetune, argv) == 0
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    capsys.readouterr()
    assert run(finetune, [*argv, "--resume", *other]) == 2
    assert message.format(checkpoint) in capsys.readouterr().err
    assert run(finetune, [*argv, "--resume", "--max_steps", 3]) == 0


def test_the_beams_of_scores_may_change(tmp_path: Path) -> None:
    argv = [*translation(tmp_path), "--model_name_or_path", tmp_path / "config.json"]
    argv += ["--output_dir", tmp_path / "run", "--device", "cpu"]
    assert run(finetune, [*argv, "--max_steps", 2]) == 0
    assert run(finetune, [*argv, "--max_steps", 3, "--num_beams", 1, "--resume"]) == 0


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "m")
    argv = [*summarization(tmp_path), "--output_dir", tmp_path / "run"]
    argv += ["--model_name_or_path", model, "--device", "cpu"]
    assert run(finetune, [*argv, "--max_steps", 2]) == 0
    (file,) = (tmp_path / "run").glob("checkpoint-*/trainer_state.json")
    state = json.loads(file.read_text())
    for name in ("options", "layout"):  # which it did not write
        del state["fingerprint"][name]
    file.write_text(json.dumps(state))
    assert run(finetune, [*argv, "--max_steps", 3, "--resume"]) == 0


def test_pretraining_is_resumed_as_it_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = tmp_path / "size.json"
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    size.write_text(json.dumps(dict(zip(names, (32, 1, 2, 64), strict=True))))
    corpus = write_text(tmp_path / "corpus.txt")
    argv = ["--corpus", corpus, "--model", size, "--output_dir", tmp_path / "run", *STEPS]
    argv += ["--vocab_size", 60, "--max_seq_length", 32, "--held_out_fraction", 0.1]
    assert run(pretrain, argv) == 0
    tokenizer = make_checkpoint(tmp_path / "other")
    for other, message in (
        (("--held_out_fraction", 0.2), "held_out_fraction: got 0.2, but "),
        (("--initialization", "random"), "initialization: got 'random', but "),
        (("--vocab_size", 70), "vocab_size: got 70, but "),
        (("--tokenizer", tokenizer), "tokenizer_sha256: got '"),
    ):
        capsys.readouterr()
        assert run(pretrain, [*argv, "--resume", *other]) == 2
        assert message in capsys.readouterr().err
    assert run(pretrain, [*argv, "--resume", "--max_steps", 3]) == 0
