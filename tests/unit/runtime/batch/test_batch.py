"""The command over whole files: results, formats, bad rows, shards, pipes."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from bert_rt.api import Runtime
from bert_rt.tasks import registry
from bert_rt.tasks.question_answering.rows import answer_fields
from bert_rt.tasks.text_classification.rows import class_fields
from bert_rt.types import TextInput
from tests.unit.runtime.batch.support import batch, pairs, read_jsonl, write_jsonl, write_parquet

Errors = Callable[[], str]


@pytest.fixture
def errors(capsys: pytest.CaptureFixture[str]) -> Errors:
    """Return what gives the one line of an error."""

    def read() -> str:
        lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert len(lines) == 1
        return lines[0]

    return read


def test_it_gives_what_answer_batch_gives(tmp_path: Path, flags: list[object]) -> None:
    rows = pairs(11)
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    output, report = tmp_path / "deep" / "out.jsonl", tmp_path / "report.json"
    assert batch("--input", source, "--output", output, "--json", report, *flags) == 0
    with Runtime.load(str(flags[1]), engine="onnxruntime", num_threads=1) as runtime:
        answers = runtime.answer_batch([(row["question"], row["context"]) for row in rows])
    results = read_jsonl(output)
    assert [row.pop("id") for row in results] == [row["id"] for row in rows]
    for result, answer in zip(results, answers, strict=True):
        want = answer_fields(answer)
        numbers = ("score", "logit", "null_score")
        assert {**result, **dict.fromkeys(numbers)} == {**want, **dict.fromkeys(numbers)}
        for name in numbers:
            assert result[name] == pytest.approx(want[name], abs=1e-4)
    figures = json.loads(report.read_text())
    assert (figures["rows"], figures["bad"], figures["resumed_rows"]) == (11, 0, 0)
    assert figures["tokens"] > 200 and figures["engine"] == "onnxruntime"
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "out.jsonl",
        "out.jsonl.journal",
    ]


@pytest.mark.parametrize(("name", "quote"), [("out.jsonl", '"'), ("out.csv", "")])
def test_letters_are_written_as_they_are(
    tmp_path: Path, flags: list[object], name: str, quote: str
) -> None:
    rows = [{"id": "Z\u00fcrich \u4e2d", "question": "who", "context": "\u00dcber \u4e2d\u6587"}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    assert batch("--input", source, "--output", tmp_path / name, *flags) == 0
    written = (tmp_path / name).read_text("utf-8")
    assert f"{quote}Z\u00fcrich \u4e2d{quote}" in written
    assert "\\u" not in written


def test_texts_are_classified(tmp_path: Path, classifier_dir: Path, small_chunks: None) -> None:
    rows = [{"a": "the cat", "b": "who is in paris?", "n": index} for index in range(6)]
    source = write_parquet(tmp_path / "in.parquet", rows)
    flags = ("--artifact", classifier_dir, "--engine", "onnxruntime", "--keep", "n", "b")
    columns = ("--text_column", "a", "--text_pair_column", "b")
    output = tmp_path / "out.csv.gz"
    assert batch("--input", source, "--output", output, *flags, *columns, "--top_k", 2) == 0
    with Runtime.load(classifier_dir, engine="onnxruntime") as runtime:
        want = class_fields(runtime.classify("the cat", "who is in paris?", top_k=2))
    with gzip.open(output, "rt", newline="") as file:
        results = list(csv.DictReader(file))
    assert [row["n"] for row in results] == [str(index) for index in range(6)]
    for row in results:
        assert (row["b"], row["label"]) == ("who is in paris?", want["label"])
        assert float(row["score"]) == pytest.approx(want["score"], abs=1e-5)
        assert json.loads(row["alternatives"])[0]["label"] == want["alternatives"][0]["label"]


def test_a_task_that_says_nothing_of_rows(
    tmp_path: Path, classifier_dir: Path, small_chunks: None
) -> None:
    from bert_rt.tasks.forms.rows import AnyRows
    from bert_rt.tasks.text_classification.classifying import TextClassification

    class Plain(TextClassification):
        def rows(self) -> Any:
            return AnyRows()

    source = write_jsonl(tmp_path / "in.jsonl", [{"words": "the cat"}] * 3)
    output = tmp_path / "out.jsonl"
    with patch.dict(registry._TASKS):
        registry.register(Plain())
        flags = ("--artifact", classifier_dir, "--text_column", "words")
        assert batch("--input", source, "--output", output, *flags) == 0
    with Runtime.load(classifier_dir) as runtime:
        want = runtime.ask(TextInput("the cat"))
    first, *_ = read_jsonl(output)
    assert (first["line"], first["result"]["label"]) == (1, want.label)
    assert first["result"]["alternatives"] == []


def test_bad_rows_go_to_their_file(
    tmp_path: Path, flags: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    good = pairs(9)
    long = {"id": "long", "question": "who", "context": ""}
    lines: list[Any] = [*good[:3], "{", *good[3:7], long, {"id": 1, "question": "q"}, *good[7:]]
    # No token is left of it, which only the tokenizer finds out.
    lines.insert(6, {"id": "marks", "question": "\u0301", "context": "the cat"})
    source = write_jsonl(tmp_path / "in.jsonl", lines)
    output, bad = tmp_path / "out.jsonl", tmp_path / "bad.jsonl"
    assert batch("--input", source, "--output", output, "--errors", bad, *flags) == 0
    assert "13 rows, 4 bad ones in " in capsys.readouterr().out
    assert [row["id"] for row in read_jsonl(output)] == [row["id"] for row in good]
    found = read_jsonl(bad)
    assert [row["line"] for row in found] == [4, 7, 10, 11]
    assert {row["file"] for row in found} == {str(source)}
    messages = ("not valid JSON", "question", "context", "want 'context'")
    for row, message in zip(found, messages, strict=True):
        assert message in row["error"]
    assert found[0]["row"] == "{" and json.loads(found[2]["row"]) == long


def test_the_first_bad_row_ends_a_run_and_nothing_is_lost(
    tmp_path: Path, flags: list[object], errors: Errors
) -> None:
    rows = pairs(20)
    source = write_jsonl(tmp_path / "in.jsonl", [*rows[:14], "{", *rows[14:]])
    output, bad = tmp_path / "out.jsonl", tmp_path / "bad.jsonl"
    run = ("--input", source, "--output", output, *flags)
    for more in ((), ("--on_error", "stop", "--errors", bad)):
        assert batch(*run, *more) == 2
        assert "in.jsonl, line 15: is not valid JSON" in errors()
        assert not output.exists() and not bad.exists()
        assert len(read_jsonl(tmp_path / "out.jsonl.part")) == 12
    report = tmp_path / "r.json"
    assert batch(*run, "--errors", bad, "--json", report) == 0
    assert json.loads(report.read_text())["resumed_rows"] == 12
    assert [row["id"] for row in read_jsonl(output)] == [row["id"] for row in rows]
    assert [row["line"] for row in read_jsonl(bad)] == [15]


def test_a_missing_column_is_one_error(tmp_path: Path, flags: list[object], errors: Errors) -> None:
    rows = [{"question": "who", "text": "the cat"}] * 9
    (tmp_path / "in.csv").write_text("question,text\nwho,the cat\n")
    sources = [write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "in.csv"]
    sources += [write_parquet(tmp_path / "in.parquet", rows)]
    for source in sources:
        output = tmp_path / "out.jsonl"
        run = ("--input", source, "--output", output, *flags, "--errors", tmp_path / "bad")
        assert batch(*run) == 2
        message = errors()
        assert "got the columns 'question', 'text'; want 'context' among them" in message
        assert str(source) in message
        assert batch(*run, "--context_column", "text", "--keep", "id") == (
            0 if source.suffix == ".jsonl" else 2
        )
        if source.suffix != ".jsonl":
            assert "keep: got 'id', want one of question, text" in errors()
        else:
            for path in (output, tmp_path / "bad", tmp_path / "out.jsonl.journal"):
                path.unlink()
        assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "in.csv", "in.parquet"}


def test_shards_make_the_whole(tmp_path: Path) -> None:
    # On the native engine, whose bits do not depend on what is computed together.
    pytest.importorskip("bert_rt._native")
    sources = [write_jsonl(tmp_path / "a.jsonl", pairs(10)), tmp_path / "b.jsonl.gz"]
    sources[1].write_bytes(gzip.compress(sources[0].read_bytes()))
    run = ("--input", *sources, "--num_threads", 1, "--engine", "native")
    assert batch(*run, "--output", tmp_path / "whole.jsonl") == 0
    parts = b""
    for index in (1, 2, 3):
        output = tmp_path / f"part-{index}.jsonl"
        assert batch(*run, "--output", output, "--shard", f"{index}/3") == 0
        parts += output.read_bytes()
    assert parts == (tmp_path / "whole.jsonl").read_bytes()
    assert parts.count(b"\n") == 20


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--shard", "4/3"), "shard: got 4/3, want I/N with I from 1 to N"),
        (("--shard", "a"), "got 'a', want I/N, such as 1/8"),
        (("--on_error", "write"), "on_error: got write, want --errors FILE beside it"),
        (("--text_column", "a"), "a row of question-answering has no such setting"),
        (("--keep", "score"), "keep: got 'score', which is a column of the results"),
        (("--output", "a.parquet"), "output: got a name that ends in 'parquet', want .csv"),
        (("--errors", "out.jsonl"), "want another file than the output"),
        (("--output", "in.jsonl/out"), "output: got 'in.jsonl/out', but "),
        (("--input", "-", "in.jsonl"), "input: got - beside files, want either"),
        (("--input", "-", "--shard", "1/2"), "cannot be divided"),
        (("--max_overlap", "7"), "max_overlap: got 7.0, want a number from 0 to 1"),
    ],
)
def test_flags_that_cannot_be(
    tmp_path: Path,
    flags: list[object],
    monkeypatch: pytest.MonkeyPatch,
    errors: Errors,
    more: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", pairs(2))
    run = ("--input", "in.jsonl", "--output", "out.jsonl", *flags, *more)
    try:
        code: Any = batch(*run)
    except SystemExit as end:  # argparse ends the program itself
        code = end.code
    assert code == 2
    assert message in errors()
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


class _Stream:
    """A standard stream over bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.buffer = io.BytesIO(data)

    def write(self, text: str) -> int:
        return self.buffer.write(text.encode())

    def flush(self) -> None:
        pass


def test_pipes(tmp_path: Path, flags: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pairs(6)
    source = write_jsonl(tmp_path / "in.jsonl", [*rows, "{"])
    assert (
        batch("--input", source, "--output", tmp_path / "a", "--errors", tmp_path / "b", *flags)
        == 0
    )
    output = _Stream()
    monkeypatch.setattr("sys.stdin", _Stream(source.read_bytes()))
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdout", output)
        assert batch("--input", "-", "--output", "-", "--errors", tmp_path / "c", *flags) == 0
    assert output.buffer.getvalue() == (tmp_path / "a").read_bytes()
    (bad,) = read_jsonl(tmp_path / "c")
    assert (bad["file"], bad["line"]) == ("-", 7)
    table = "question,context\nwho,the cat\n"
    monkeypatch.setattr("sys.stdin", _Stream(table.encode()))
    assert batch("--input", "-", "--format", "csv", "--output", tmp_path / "d", *flags) == 0
    assert [row["line"] for row in read_jsonl(tmp_path / "d")] == [2]


def test_several_files_are_named_in_the_output(tmp_path: Path, flags: list[object]) -> None:
    rows = [{key: row[key] for key in ("question", "context")} for row in pairs(3)]
    sources = [write_jsonl(tmp_path / name, rows) for name in ("a.jsonl", "b.jsonl")]
    output = tmp_path / "out.jsonl"
    assert batch("--input", *sources, "--output", output, *flags) == 0
    places = [(row["file"], row["line"]) for row in read_jsonl(output)]
    assert places == [(str(source), line) for source in sources for line in (1, 2, 3)]
