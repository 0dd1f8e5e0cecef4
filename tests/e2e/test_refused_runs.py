"""A run that is refused leaves nothing behind, whichever command and whatever the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_rt.model.architectures import ARCHITECTURES
from bert_rt.support.cli import run_command
from compile import export, verify
from runtime import answer as answer_command
from runtime import classify, doctor, evaluate
from runtime.bench import __main__ as bench
from tests.support.artifacts import write_tiny_artifact
from tests.support.corpora import write_text
from tests.support.training import WINDOWS, make_checkpoint, make_squad
from train import average, finetune, pretrain, vocab
from train.unanswerable import __main__ as unanswerable


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of good and bad inputs."""
    path = tmp_path_factory.mktemp("inputs")
    make_checkpoint(path / "model")
    make_checkpoint(path / "qa", "question-answering")
    make_squad(path / "good.json")
    text = (path / "good.json").read_text()
    (path / "bad.json").write_text(text.replace('"answer_start": ', '"answer_start": 9'))
    (path / "bad.tsv").write_text("sentence\tlabel\nthe cat\n")
    write_text(path / "text.txt", 30)
    (path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (path / "short.txt").write_text("one line only\n")
    write_tiny_artifact(path / "artifact")
    return path


QA = ("--task", "question-answering", *WINDOWS, "--max_steps", "1")
TEXT = ("--task", "text-classification", "--max_steps", "1")
TINY = ("--model", "tiny", "--max_steps", "1")


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (finetune.main, [*QA, "--model_name_or_path", "IN/model", "--train_file", "IN/bad.json"]),
        (finetune.main, [*QA, "--model_name_or_path", "IN/model", "--train_file", "IN/none.json"]),
        (finetune.main, [*QA, "--model_name_or_path", "IN/none", "--train_file", "IN/good.json"]),
        (
            finetune.main,
            [
                *(*QA, "--model_name_or_path", "IN/model", "--train_file", "IN/good.json"),
                *("--validation_file", "IN/none.json"),
            ],
        ),
        (
            finetune.main,
            [
                *(*QA, "--model_name_or_path", "IN/model", "--train_file", "IN/good.json"),
                *("--num_seeds", "2", "--teacher", "IN/none"),
            ],
        ),
        (
            finetune.main,
            [
                *(*QA, "--model_name_or_path", "IN/model", "--train_file", "IN/good.json"),
                *("--learning_rate", "-1"),
            ],
        ),
        (
            finetune.main,
            [
                *("--task", "question-answering", "--max_seq_length", "999"),
                *("--model_name_or_path", "IN/model", "--train_file", "IN/good.json"),
            ],
        ),
        (finetune.main, [*TEXT, "--model_name_or_path", "IN/model", "--train_file", "IN/bad.tsv"]),
        (pretrain.main, [*TINY, "--corpus", "IN/bad.txt", "--tokenizer", "IN/model"]),
        (pretrain.main, [*TINY, "--corpus", "IN/short.txt", "--tokenizer", "IN/model"]),
        (pretrain.main, [*TINY, "--corpus", "IN/none.txt", "--tokenizer", "IN/model"]),
        (pretrain.main, [*TINY, "--corpus", "IN/text.txt", "--tokenizer", "IN/none"]),
        (pretrain.main, [*TINY, "--corpus", "IN/bad.txt"]),
        (pretrain.main, ["--model", "IN/none.json", "--corpus", "IN/text.txt"]),
        (pretrain.main, ["--model", "IN/bad.txt", "--corpus", "IN/text.txt"]),
        (
            pretrain.main,
            [*TINY, "--corpus", "IN/text.txt", "--tokenizer", "IN/model", "--mlm_prob", "2"],
        ),
        (
            pretrain.main,
            [
                *(*TINY, "--corpus", "IN/text.txt", "--tokenizer", "IN/model"),
                *("--mlm_probability", "0.9"),
            ],
        ),
        (
            pretrain.main,
            [
                *(*TINY, "--corpus", "IN/text.txt", "--tokenizer", "IN/model"),
                *("--long_seq_length", "9999"),
            ],
        ),
        (average.main, ["--models", "IN/model", "IN/none"]),
        (average.main, ["--models", "IN/model", "IN/qa"]),
        (vocab.main, ["--corpus", "IN/bad.txt"]),
        (vocab.main, ["--corpus", "IN/text.txt", "--vocab_size", "3"]),
        (export.main, ["--model_name_or_path", "IN/none"]),
        (export.main, ["--model_name_or_path", "IN/qa", "--int8"]),
        (export.main, ["--model_name_or_path", "IN/qa", *WINDOWS, "--eval_file", "IN/bad.json"]),
    ],
)
def test_no_directory_is_left(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    argv: list[str],
) -> None:
    given = [one.replace("IN/", f"{inputs}/") for one in argv]
    before = sorted(inputs.rglob("*"))
    try:
        code = run_command(main, [*given, "--output_dir", str(tmp_path / "new" / "run")])  # type: ignore[arg-type]
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    assert sorted(inputs.rglob("*")) == before


def test_a_directory_that_was_there_stays_as_it_was(inputs: Path, tmp_path: Path) -> None:
    argv = [*QA, "--model_name_or_path", f"{inputs}/model", "--train_file", f"{inputs}/bad.json"]
    assert run_command(finetune.main, [*argv, "--output_dir", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []
    corpus = ["--corpus", f"{inputs}/short.txt", "--tokenizer", f"{inputs}/model"]
    assert run_command(pretrain.main, [*TINY, *corpus, "--output_dir", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "metrics.jsonl").touch()
    assert run_command(finetune.main, [*argv, "--output_dir", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    ("main", "argv"),
    [
        (evaluate.main, ["--artifact", "IN/artifact", "--data", "IN/none.json"]),
        (evaluate.main, ["--artifact", "IN/none", "--data", "IN/good.json"]),
        (bench.main, ["--artifact", "IN/artifact", "--data", "IN/bad.txt"]),
        (doctor.main, ["--artifact", "IN/none"]),
        (verify.main, ["--artifact", "IN/artifact", "--eval_file", "IN/good.json"]),
        (
            unanswerable.main,
            ["--train_file", "IN/bad.json", "--output_file", "OUT/a", "--held_out_file", "OUT/b"],
        ),
        (
            finetune.main,
            [
                *(*QA, "--model_name_or_path", "IN/model", "--train_file", "IN/bad.json"),
                *("--output_dir", "OUT/run"),
            ],
        ),
        (export.main, ["--model_name_or_path", "IN/none", "--output_dir", "OUT/art"]),
    ],
)
def test_no_result_is_left(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    argv: list[str],
) -> None:
    given = [one.replace("IN/", f"{inputs}/").replace("OUT/", f"{tmp_path}/new/") for one in argv]
    result = ["--json", str(tmp_path / "new" / "deep" / "result.json")]
    if main is evaluate.main:
        result += ["--predictions", str(tmp_path / "new" / "predictions.json")]
    assert run_command(main, [*given, *result]) == 2  # type: ignore[arg-type]
    assert capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("main", "flag"),
    [
        (evaluate.main, "--json"),
        (evaluate.main, "--predictions"),
        (bench.main, "--json"),
        (bench.main, "--markdown"),
        (bench.main, "--plot"),
        (doctor.main, "--json"),
        (verify.main, "--json"),
        (export.main, "--json"),
        (finetune.main, "--json"),
        (pretrain.main, "--json"),
        (unanswerable.main, "--json"),
        (unanswerable.main, "--output_file"),
        (unanswerable.main, "--held_out_file"),
    ],
)
def test_a_result_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    flag: str,
) -> None:
    (tmp_path / "file").write_text("x")
    for path, message in ((tmp_path, "not a directory"), (tmp_path / "file/x", "is no directory")):
        with pytest.raises(SystemExit) as caught:
            main([flag, str(path)])
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert flag in err and message in err


@pytest.mark.parametrize("main", [answer_command.main, classify.main])
def test_refused_questions_write_nothing(
    inputs: Path, tmp_path: Path, main: Callable[[list[str]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["--question=q", "--context="] if main is answer_command.main else ["--text=x"]
    assert run_command(main, ["--artifact", f"{inputs}/artifact", *texts]) == 2  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("model_type", [*ARCHITECTURES, "t5", None, 3])
def test_an_architecture_that_cannot_be_pretrained_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model_type: object, resume: list[str]
) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"model_type": model_type}))
    # A corpus that is missing is found later than that.
    argv = ["--model", str(tmp_path / "c.json"), "--corpus", str(tmp_path / "none.txt")]
    argv += ["--max_steps", "1"]
    assert run_command(pretrain.main, [*argv, "--output_dir", str(tmp_path / "run"), *resume]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    if model_type == "bert":
        assert told == f"error: {tmp_path / 'none.txt'}: cannot be read: No such file or directory"
    else:
        assert told == (
            f"error: model_type: got {model_type!r}, want an architecture that has a model of "
            "pretraining: bert"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["c.json"]


def test_a_model_file_with_a_byte_order_mark(inputs: Path, tmp_path: Path) -> None:
    size = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(size).encode() + b"\r\n")
    corpus = ["--corpus", f"{inputs}/text.txt", "--tokenizer", f"{inputs}/model"]
    argv = ["--model", str(tmp_path / "c.json"), *corpus, "--max_seq_length", "32"]
    argv += ["--output_dir", str(tmp_path / "run"), "--max_steps", "1"]
    assert run_command(pretrain.main, [*argv, "--held_out_fraction", "0.1"]) == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()
