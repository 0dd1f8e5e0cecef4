"""Data files as people have them, through every command that reads them."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.artifact.artifact import load_artifact
from bert_rt.support.cli import run_command
from compile import export, verify
from runtime import evaluate
from runtime.bench import __main__ as bench
from tests.support.artifacts import write_tiny_artifact, write_tiny_classifier
from tests.support.training import WINDOWS, make_checkpoint, make_squad
from tests.unit.compile import tiny
from train import finetune, unanswerable
from train.loop.journal import read_metrics


def flat_records(file: Path) -> list[dict[str, Any]]:
    """Return the questions of a SQuAD file as flat records with integer ids."""
    records: list[dict[str, Any]] = []
    for article in json.loads(file.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                answers = {
                    name: [answer[name] for answer in entry["answers"]]
                    for name in ("text", "answer_start")
                }
                records.append(
                    {
                        "id": len(records),
                        "title": article.get("title"),
                        "context": paragraph["context"],
                        "question": entry["question"],
                        "answers": answers,
                    }
                )
    return records


def write_lines(file: Path, records: list[dict[str, Any]], newline: str = "\n") -> Path:
    """Write JSON Lines, with a byte order mark and a blank last line."""
    text = newline.join(map(json.dumps, records)) + newline * 2
    data = codecs.BOM_UTF8 + text.encode()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


@pytest.mark.parametrize("name", ["integer-ids.json", "flat-squad.json", "flat-squad.jsonl"])
def test_shared_cases_with_the_embedded_model(shared_dir: Path, tmp_path: Path, name: str) -> None:
    result, predictions = tmp_path / "r.json", tmp_path / "p.json"
    argv = ["--data", str(shared_dir / "cases" / name), "--engine", "onnxruntime"]
    argv += ["--json", str(result), "--predictions", str(predictions)]
    assert run_command(evaluate.main, argv) == 0
    scores = json.loads(result.read_text())
    assert (scores["exact_match"], scores["f1"], scores["total"]) == (100.0, 100.0, 1)
    identifier = "51870" if name == "integer-ids.json" else "q1"
    assert json.loads(predictions.read_text()) == {identifier: "Karl von Frisch"}


def test_a_flat_file_trains_and_evaluates_like_squads(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    nested = make_squad(tmp_path / "nested.json")
    flat = write_lines(tmp_path / "flat.jsonl.gz", flat_records(nested), "\r\n")
    lines = []
    for file in (nested, flat):
        directory = tmp_path / f"run-{file.name}"
        argv = ["--task", "question-answering", "--model_name_or_path", str(checkpoint)]
        argv += ["--train_file", str(file), "--validation_file", str(file), *WINDOWS]
        argv += ["--output_dir", str(directory), "--max_steps", "2", "--logging_steps", "1"]
        assert run_command(finetune.main, argv) == 0
        lines.append(read_metrics(directory / "metrics.jsonl"))
    rows = [[(line["step"], line.get("loss"), line.get("dev_f1")) for line in run] for run in lines]
    assert rows[0] == rows[1]
    assert rows[0][0][1] is not None and rows[0][-1][2] is not None


def test_a_flat_file_gets_questions_without_an_answer(tmp_path: Path) -> None:
    context = "Anna Berg met 12 farmers in Oslo in May. Karl Lund left Bergen in June with 7 dogs."
    records = [
        {
            "id": number,
            "title": "t",
            "context": f"{context} It was year {number}.",
            "question": "Who met 12 farmers in Oslo?",
            "answers": {"text": ["Anna Berg"], "answer_start": [0]},
        }
        for number in range(30)
    ]
    source = write_lines(tmp_path / "flat.jsonl", records)
    output = tmp_path / "out.json"
    argv = ["--train_file", str(source), "--output_file", str(output)]
    assert run_command(unanswerable.main, [*argv, "--unanswerable_share", "0.2"]) == 0
    ids = [record["id"] for record in entries(output)]
    assert [one for one in ids if isinstance(one, int)] == list(range(30))
    assert all(str(one).partition("-")[0].isdigit() for one in ids if isinstance(one, str))
    assert len(ids) > 30
    records[3]["answers"]["answer_start"] = [1]
    write_lines(source, records)
    assert run_command(unanswerable.main, argv) == 2
    assert run_command(unanswerable.main, [*argv, "--drop_invalid"]) == 0
    assert 3 not in [record["id"] for record in entries(output)]


def entries(file: Path) -> list[dict[str, Any]]:
    """Return the entries of a SQuAD file."""
    data = json.loads(file.read_text())["data"]
    return [entry for a in data for paragraph in a["paragraphs"] for entry in paragraph["qas"]]


def bad_records(file: Path) -> list[dict[str, Any]]:
    """Return records of which 7 cannot be used by a training, 5 by an evaluation."""
    records = flat_records(file)
    records[1]["question"] = " "
    records[2]["context"] = ""
    records[2]["answers"] = {"text": [], "answer_start": []}
    records[3]["question"] = "who\0"
    records[4]["question"] = "x" * 100_001
    records[5]["answers"]["answer_start"] = [10**6]
    records[6]["answers"]["text"] = ["never"]
    records[7]["answers"]["text"] = ["never again"]
    return records


def test_what_cannot_be_trained_on_is_reported_at_once_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    records = bad_records(make_squad(tmp_path / "nested.json"))
    file = write_lines(tmp_path / "bad.jsonl", records)
    argv = ["--task", "question-answering", "--model_name_or_path", str(checkpoint)]
    argv += ["--train_file", str(file), "--validation_file", str(file), *WINDOWS]
    argv += ["--output_dir", str(tmp_path / "run"), "--max_steps", "1", "--logging_steps", "1"]
    argv += ["--version_2_with_negative"]
    assert run_command(finetune.main, argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"error: {file}: got 7 faults: question 1: question: got ' '" in err
    for number in range(1, 8):
        assert f"question {number}: " in err
    assert "--drop_invalid" in err
    assert run_command(finetune.main, [*argv, "--drop-invalid"]) == 0
    messages = [message for message in caplog.messages if "left out" in message]
    assert len(messages) == 2  # the training file, and the validation file
    assert all(f"{file}: left out 7 of 60 questions: " in message for message in messages)


def test_what_cannot_be_evaluated_is_reported_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_tiny_artifact(tmp_path / "artifact")
    records = bad_records(make_squad(tmp_path / "nested.json"))
    file = write_lines(tmp_path / "bad.jsonl", records)
    result, predictions = tmp_path / "new" / "r.json", tmp_path / "new" / "p.json"
    argv = ["--artifact", str(tmp_path / "artifact"), "--engine", "onnxruntime"]
    argv += ["--data", str(file), "--json", str(result), "--predictions", str(predictions)]
    assert run_command(evaluate.main, argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"error: {file}: got 5 faults: question 1: question: got ' '" in err
    assert not result.parent.exists()
    assert run_command(evaluate.main, [*argv, "--drop_invalid"]) == 0
    scores = json.loads(result.read_text())
    assert (scores["total"], scores["dropped"]) == (53, {"items": 7, "answers": 0})
    assert "left out 7 of 60 questions" in caplog.text
    given = json.loads(predictions.read_text())
    assert sorted(map(int, given)) == [0, *range(8, 60)]


def test_labelled_rows_are_left_out_of_an_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_classifier(tmp_path / "artifact")
    file = tmp_path / "rows.tsv"
    file.write_bytes(
        b"\xef\xbb\xbfsentence\tlabel\r\nthe cat\t0\r\n\t1\r\nwho\r\nthe mat\t1\r\n\r\n"
    )
    result = tmp_path / "r.json"
    argv = ["--artifact", str(tmp_path / "artifact"), "--engine", "onnxruntime"]
    argv += ["--data", str(file), "--json", str(result)]
    assert run_command(evaluate.main, argv) == 2
    assert f"{file}: got 2 faults: line 3: sentence: got ''" in capsys.readouterr().err
    assert run_command(evaluate.main, [*argv, "--drop_invalid"]) == 0
    scores = json.loads(result.read_text())
    assert (scores["total"], scores["dropped"]) == (2, {"items": 2, "answers": 0})
    file.write_text("sentence\tlabel\nthe cat\t0\nthe mat\tx\nthe mat\t7\nthe mat\tx\n")
    assert run_command(evaluate.main, argv) == 2
    err = capsys.readouterr().err
    assert "line 3: label: got 'x'; " in err and "line 4: label: got '7' (3 rows have" in err


def test_an_export_reads_every_form_and_its_receipt_can_be_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.exports()
    monkeypatch.setattr("compile.tasks.base.trace", lambda loaded: tiny.traced())
    records = flat_records(made.eval_file)[:40]
    records[5]["question"] = "\t"
    records[7]["answers"]["answer_start"] = [-1]
    evaluation = write_lines(tmp_path / "eval.jsonl", records)
    argv = ["--model_name_or_path", str(made.checkpoint), "--output_dir", str(tmp_path / "art")]
    argv += ["--eval_file", str(evaluation), *tiny.LIMIT_FLAGS]
    assert run_command(export.main, argv) == 2
    err = capsys.readouterr().err
    assert f"{evaluation}: got 2 faults: question 5: question: got '\\t'" in err
    assert not (tmp_path / "art").exists()
    assert run_command(export.main, [*argv, "--drop_invalid"]) == 0
    receipt = load_artifact(tmp_path / "art").manifest.receipt
    assert receipt is not None
    assert (receipt["dataset"]["total"], receipt["dataset"]["drop_invalid"]) == (38, True)
    assert receipt["float"]["f1"] == 100.0
    verified = ["--artifact", str(tmp_path / "art"), "--eval_file", str(evaluation)]
    assert run_command(verify.main, verified) == 0
    assert "F1 100.00" in capsys.readouterr().out


@pytest.mark.parametrize("command", [evaluate, bench])
def test_a_file_of_no_form_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Any
) -> None:
    write_tiny_artifact(tmp_path / "artifact")
    file = tmp_path / "other.json"
    file.write_text('{"version": 1, "questions": []}')
    argv = ["--artifact", str(tmp_path / "artifact"), "--data", str(file)]
    assert run_command(command.main, argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "got an object with 'version', 'questions'; want an object with \"data\"" in err
    assert "paragraphs" in err and "run_qa.py" in err and "JSON Lines" in err
