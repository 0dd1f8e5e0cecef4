"""The training commands as users run them: killed, resumed, in two processes, with bad data."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bert_rt.support.cli import run_command
from bert_rt.tasks.checkpoints import load_model
from bert_rt.text.tokenization import Tokenizer
from tests.support.data.corpora import write_text
from tests.support.data.text import VOCAB
from tests.support.training import WINDOWS, make_checkpoint, make_squad
from train import finetune, pretrain
from train.loop import scoring
from train.loop.journal import read_metrics
from train.tasks.question_answering import objective as question_answering

# Losses of one process with doubled accumulation and of two: the same sums in another order, over
# 12 steps of AdamW at a high rate. Each step turns a difference of 1e-7 in a gradient near 0 into
# one of the step's size at most in that weight alone.
TWO_PROCESSES_ATOL = 2e-3


def flags(tmp_path: Path, output_dir: Path, *more: str) -> list[str]:
    model, data = tmp_path / "model", tmp_path / "train.json"
    if not model.exists():
        make_checkpoint(model)
        make_squad(data)
    return [
        *("--task", "question-answering"),
        *("--model_name_or_path", str(model)),
        *("--train_file", str(data)),
        *("--output_dir", str(output_dir)),
        *("--per_device_train_batch_size", "4"),
        *("--learning_rate", "3e-3"),
        *("--dropout", "0.1"),
        *("--logging_steps", "1"),
        *WINDOWS,
        *more,
    ]


def weights_hash(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def run(*argv: str) -> int:
    return run_command(finetune.main, list(argv))


def start(argv: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "train.finetune", *argv]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for_step(process: subprocess.Popen[bytes], output_dir: Path, step: int) -> None:
    """Wait until the run has logged a step."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s and process.poll() is None:
        lines = read_metrics(output_dir / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"the run never came to step {step}")


def test_killed_three_times_and_resumed_to_the_same_bits(tmp_path: Path) -> None:
    ends = ("--max_steps", "45", "--save_steps", "4", "--gradient_accumulation_steps", "2")
    whole = tmp_path / "whole"
    assert run(*flags(tmp_path, whole, *ends)) == 0
    broken = tmp_path / "broken"
    rng = random.Random(0)
    for low in (1, 14, 28):
        process = start(flags(tmp_path, broken, *ends, "--resume"))
        wait_for_step(process, broken, low + rng.randrange(10))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    assert run(*flags(tmp_path, broken, *ends, "--resume")) == 0
    assert weights_hash(broken) == weights_hash(whole)
    losses = [
        [line["loss"] for line in read_metrics(directory / "metrics.jsonl")]
        for directory in (whole, broken)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 45
    assert not list(broken.glob(".*"))


def test_split_layers_are_resumed_to_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = str(make_checkpoint(tmp_path / "teacher", "question-answering", seed=1))
    ends = ("--max_steps", "6", "--save_steps", "3", "--teacher", teacher)
    split = ("--num_split_layers", "1", "--teacher_states_weight", "2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(*flags(tmp_path, whole, *ends, *split)) == 0
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "checkpoint-00000006")
    (broken / "model.safetensors").unlink()
    assert run(*flags(tmp_path, broken, *ends, "--resume")) == 2
    assert "num_split_layers" in capsys.readouterr().err
    assert run(*flags(tmp_path, broken, *ends, *split, "--resume")) == 0
    assert weights_hash(broken) == weights_hash(whole)


def test_sigterm_ends_with_a_checkpoint_and_code_0(tmp_path: Path) -> None:
    output_dir = tmp_path / "run"
    argv = flags(tmp_path, output_dir, "--max_steps", "100000", "--save_steps", "0")
    process = start(argv)
    wait_for_step(process, output_dir, 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    (checkpoint,) = output_dir.glob("checkpoint-*")
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    assert state["step"] == read_metrics(output_dir / "metrics.jsonl")[-1]["step"]


@pytest.mark.parametrize("stopped_step", [4, 6])  # on the way, and at the end
def test_sigterm_gives_up_a_scoring_which_the_resumed_run_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_step: int
) -> None:
    data = make_squad(tmp_path / "dev.json", num_contexts=2)
    ends = ("--max_steps", "6", "--eval_steps", "2", "--validation_file", str(data))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(*flags(tmp_path, whole, *ends)) == 0
    score_answers = question_answering.score_answers
    scorings = iter((2, 4, 6))

    def score_after_signal(*args: Any) -> Any:
        if next(scorings) == stopped_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return score_answers(*args)

    with monkeypatch.context() as patch:
        patch.setattr(question_answering, "score_answers", score_after_signal)
        assert run(*flags(tmp_path, stopped, *ends)) == 0
    before = read_metrics(stopped / "metrics.jsonl")
    assert [line["step"] for line in before if "dev_f1" in line] == [*range(2, stopped_step, 2)]

    assert run(*flags(tmp_path, stopped, *ends, "--resume")) == 0

    scores = [
        [line for line in read_metrics(directory / "metrics.jsonl") if "dev_f1" in line]
        for directory in (whole, stopped)
    ]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3
    assert weights_hash(stopped) == weights_hash(whole)


def test_scoring_between_two_lines_loses_no_metrics(tmp_path: Path) -> None:
    data = make_squad(tmp_path / "dev.json", num_contexts=2)
    ends = ("--max_steps", "5", "--logging_steps", "3", "--validation_file", str(data))
    counted = {}
    for name, more in (("scored", ("--eval_steps", "2")), ("plain", ())):
        assert run(*flags(tmp_path, tmp_path / name, *ends, *more)) == 0
        lines = [line for line in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in line]
        counted[name] = ([line["step"] for line in lines], lines[-1]["num_tokens"])
    assert counted["scored"] == ([2, 3, 4, 5], counted["plain"][1])


def test_two_processes_do_what_one_does_with_doubled_accumulation(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    data = make_squad(tmp_path / "dev.json", num_contexts=2)
    shared = ("--max_steps", "12", "--dropout", "0.0")
    shared += ("--eval_steps", "5", "--validation_file", str(data))
    assert run(*flags(tmp_path, one, *shared, "--gradient_accumulation_steps", "2")) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", "-m", "train.finetune", *flags(tmp_path, two, *shared)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=200)
    first, second = (read_metrics(path / "metrics.jsonl") for path in (one, two))
    for lines in (first, second):
        assert [line["step"] for line in lines if "dev_f1" in line] == [5, 10, 12]
    first, second = ([line for line in lines if "loss" in line] for lines in (first, second))
    assert len(first) == len(second) == 12
    for a, b in zip(first, second, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=TWO_PROCESSES_ATOL)
    assert first[0]["loss"] - first[-1]["loss"] > 10 * TWO_PROCESSES_ATOL


def test_a_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = flags(tmp_path, tmp_path / "run", "--max_steps", "2")
    assert run(*argv) == 0
    capsys.readouterr()
    assert run(*argv) == 2
    assert "holds a run; --resume continues it" in capsys.readouterr().err
    assert run(*argv, "--resume", "--seed", "1") == 2
    assert "seed: got 1, but" in capsys.readouterr().err
    assert run(*argv, "--resume") == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    assert run(*flags(tmp_path, other, "--max_steps", "2")) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err


@pytest.mark.parametrize("bonus", [-1000.0, 1000.0])
def test_the_best_of_several_seeds_and_of_their_average_is_kept(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    bonus: float,
) -> None:
    plain = scoring.score

    def score(*args: Any) -> dict[str, float]:
        return {name: value + bonus for name, value in (plain(*args) or {}).items()}

    monkeypatch.setattr(scoring, "score", score)  # train.loop.loop has its own name for the seeds'
    data = make_squad(tmp_path / "dev.json", num_contexts=3)
    output_dir = tmp_path / "run"
    argv = flags(tmp_path, output_dir, "--max_steps", "6", "--num_seeds", "2")
    argv += ["--validation_file", str(data), "--json", str(tmp_path / "out.json")]
    assert run(*argv) == 0
    results = json.loads((tmp_path / "out.json").read_text())
    scores = {f"seed-{seed}": results[seed]["best_score"] for seed in ("0", "1")}
    out = capsys.readouterr().out
    assert f"2 seeds: f1 {sum(scores.values()) / 2:.2f} +-" in out
    scores["average"] = results["average"]["scores"]["f1"]
    best = max(scores, key=lambda name: scores[name])
    assert (best == "average") == (bonus > 0)
    assert f"the model of {best}, the best with {scores[best]:.2f}" in out
    hashes = {name: weights_hash(output_dir / name) for name in scores}
    assert len(set(hashes.values())) == 3
    assert weights_hash(output_dir) == hashes[best]


def test_a_signal_while_the_average_is_scored_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_squad(tmp_path / "dev.json", num_contexts=2)
    output_dir = tmp_path / "run"
    argv = flags(tmp_path, output_dir, "--max_steps", "3", "--num_seeds", "2")
    argv += ["--validation_file", str(data), "--json", str(tmp_path / "out.json")]
    plain = question_answering.QuestionAnswering.evaluate

    def evaluate(self: Any, model: Any) -> Any:
        if (output_dir / "average").exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, model)

    with monkeypatch.context() as patch:
        patch.setattr(question_answering.QuestionAnswering, "evaluate", evaluate)
        assert run(*argv) == 0
    assert "--resume scores the average" in capsys.readouterr().out
    assert not (output_dir / "model.safetensors").exists()
    assert not (tmp_path / "out.json").exists()
    assert run(*argv, "--resume") == 0
    assert (output_dir / "model.safetensors").exists()
    assert "average" in json.loads((tmp_path / "out.json").read_text())


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    data = make_squad(tmp_path / "dev.json", num_contexts=2)
    ends = ("--max_steps", "400", "--eval_steps", "2", "--early_stopping_patience", "2")
    output_dir = tmp_path / "run"
    argv = flags(tmp_path, output_dir, *ends, "--learning_rate", "0")
    assert run(*argv, "--validation_file", str(data)) == 0
    # Nothing is learnt at a rate of 0: the first evaluation stays the best, two more end the run.
    lines = [line for line in read_metrics(output_dir / "metrics.jsonl") if "dev_f1" in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert (output_dir / "model.safetensors").is_file()


def test_a_rate_too_high_is_called_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    argv = flags(tmp_path, tmp_path / "run", "--max_steps", "20", "--max_grad_norm", "0")
    assert run(*argv, "--learning_rate", "10", "--warmup_ratio", "0.9") == 0
    assert "the learning rate is probably too high" in caplog.text


def test_a_faster_allocator_is_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.loop.loop.allocator_advice", lambda: "set LD_PRELOAD=lib.so")

    run(*flags(tmp_path, tmp_path / "out", "--max_steps", "1", "--device", "cpu"))

    assert "set LD_PRELOAD=lib.so" in caplog.text


def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(question_answering, "span_loss", lambda start, *_: (start * math.nan).sum())
    argv = flags(tmp_path, tmp_path / "run", "--max_steps", "20")
    assert run(*argv) == 2
    assert "step 1: grad_norm is nan" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_every_file_of_the_tokenizer_is_in_the_output(tmp_path: Path) -> None:
    argv = flags(tmp_path, tmp_path / "run", "--max_steps", "1")
    files: dict[str, Any] = {"special_tokens_map.json": {"additional_special_tokens": ["cat"]}}
    content = json.loads((tmp_path / "model" / "tokenizer.json").read_bytes())
    vocab = content["model"]["vocab"]
    last = max(vocab, key=vocab.__getitem__)
    files["added_tokens.json"] = {"covid19": vocab.pop(last)}
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(content))
    for name, values in files.items():
        (tmp_path / "model" / name).write_text(json.dumps(values))
    assert run(*argv) == 0
    for name in (*files, "tokenizer.json"):
        kept = (tmp_path / "run" / name).read_bytes()
        assert kept == (tmp_path / "model" / name).read_bytes()
    tokenizer = Tokenizer.from_directory(tmp_path / "run")
    ids = tokenizer.encode("covid19 thecat").input_ids.tolist()
    assert ids == [len(VOCAB) - 1, VOCAB.index("the"), VOCAB.index("cat")]


def test_a_teacher_of_another_vocabulary_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = make_checkpoint(tmp_path / "teacher", "question-answering", seed=7)
    argv = flags(tmp_path, tmp_path / "run", "--max_steps", "2", "--teacher", str(teacher))
    assert run(*argv) == 0
    line = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    mixed = 0.5 * line["answer_loss"] + 0.5 * line["teacher_loss"]
    assert line["loss"] == pytest.approx(mixed, rel=1e-5)
    (teacher / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    argv = flags(tmp_path, tmp_path / "run2", "--max_steps", "2", "--teacher", str(teacher))
    assert run(*argv) == 2
    assert "teacher: the tokenizer of" in capsys.readouterr().err


def test_pretraining_from_raw_text_and_fine_tuning_of_what_came_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_text(tmp_path / "text.txt", 60)
    size = tmp_path / "config.json"
    size.write_text(
        json.dumps(
            {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "max_position_embeddings": 64,
            }
        )
    )
    pretrained = tmp_path / "pretrained"
    argv = ["--corpus", str(corpus), "--model", str(size), "--output_dir", str(pretrained)]
    argv += ["--vocab_size", "60", "--max_seq_length", "32", "--held_out_fraction", "0.1"]
    assert run_command(pretrain.main, [*argv, "--max_steps", "3"]) == 0
    assert run_command(pretrain.main, [*argv, "--max_steps", "5", "--resume"]) == 0
    assert "mlm_accuracy" in capsys.readouterr().out
    lines = [line for line in read_metrics(pretrained / "metrics.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == [3, 5]
    loaded = load_model(pretrained)
    assert loaded.task == "pretraining"
    assert loaded.config.vocab_size == 64  # 60 and fewer, to the next multiple of 64
    argv = flags(tmp_path, tmp_path / "qa", "--max_steps", "2")
    argv[argv.index("--model_name_or_path") + 1] = str(pretrained)
    assert run(*argv) == 0
    assert load_model(tmp_path / "qa").task == "question-answering"


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "text.txt"), ("one line only\n", "no document of at least 16 tokens")],
)
def test_a_corpus_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    corpus = tmp_path / "text.txt"
    corpus.write_text(text)
    vocabulary = make_checkpoint(tmp_path / "model")
    argv = ["--corpus", str(corpus), "--model", "tiny", "--output_dir", str(tmp_path / "run")]
    argv += ["--max_steps", "1", "--tokenizer", str(vocabulary)]
    assert run_command(pretrain.main, argv) == 2
    assert message in capsys.readouterr().err
