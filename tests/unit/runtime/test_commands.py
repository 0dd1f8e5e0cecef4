"""Tests of the commands of runtime, called in this process."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_rt.support.cli import run_command
from bert_rt.text.tokenization import Tokenizer
from runtime import answer, demo, doctor, evaluate
from runtime import lines as lines_module
from tests.support.artifacts import PAIRS, write_tiny_artifact


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the flags that name a tiny artifact."""
    path = tmp_path_factory.mktemp("commands") / "artifact"
    write_tiny_artifact(path)
    return ["--artifact", str(path), "--engine", "onnxruntime", "--num-threads", "1"]


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Return what puts bytes on stdin."""
    with contextlib.ExitStack() as opened:

        def put(data: bytes) -> None:
            path = tmp_path / "stdin"
            path.write_bytes(data)
            monkeypatch.setattr("sys.stdin", opened.enter_context(path.open()))

        yield put


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_answer_one_question(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    question, context = PAIRS[0]
    texts = ["--question", question, "--context", context]
    assert run_command(answer.main, [*flags, *texts, "--top_k", "2"]) == 0
    (result,) = lines(capsys.readouterr().out)
    assert context[result["start"] : result["end"]] == result["text"]
    assert len(result["alternatives"]) == 1
    assert result["score"] >= result["alternatives"][0]["score"]


def test_answers_that_do_not_overlap(
    flags: list[str], feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    question, context = PAIRS[1]
    wanted = ["--top_k", "3", "--max-overlap", "0"]
    texts = ["--question", question, "--context", context]
    assert run_command(answer.main, [*flags, *texts, *wanted]) == 0
    (single,) = lines(capsys.readouterr().out)
    found = sorted((one["start"], one["end"]) for one in (single, *single["alternatives"]))
    assert len(found) == 3
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(found))
    feed(json.dumps({"question": question, "context": context}).encode())
    assert run_command(answer.main, [*flags, *wanted]) == 0
    assert lines(capsys.readouterr().out) == [single]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_people_can_read_what_is_printed(
    flags: list[str],
    feed: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
) -> None:
    """Letters as they are where stdout's encoding has them, else escaped: no line is lost."""
    ids = ["Z\u00fcrich", "\u4e2d\u6587"]
    rows = [{"id": i, "question": "who", "context": "the cat sat"} for i in ids]
    feed("".join(json.dumps(row) + "\n" for row in rows).encode())
    written = io.BytesIO()
    with io.TextIOWrapper(written, encoding) as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert run_command(answer.main, flags) == 0
        text = written.getvalue().decode(encoding)
    assert [row["id"] for row in lines(text)] == ids
    assert ("Z\u00fcrich" in text) == (encoding != "ascii")
    assert ("\u4e2d\u6587" in text) == (encoding == "utf-8")


def test_answer_from_a_file_keeps_offsets(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = "\r\n\r\n\u4e2d\u6587 caf\u00e9\r\nthe cat"
    path = tmp_path / "context.txt"
    path.write_bytes(context.encode())
    assert run_command(answer.main, [*flags, "--question=who", f"--context_file={path}"]) == 0
    (result,) = lines(capsys.readouterr().out)
    assert context[result["start"] : result["end"]] == result["text"]


def test_answer_lines(
    flags: list[str], feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [{"id": i, "question": q, "context": c} for i, (q, c) in enumerate(PAIRS)]
    del entries[1]["id"]
    feed("\n\n".join(json.dumps(entry) for entry in entries).encode())
    assert run_command(answer.main, flags) == 0
    results = lines(capsys.readouterr().out)
    assert [result.get("id") for result in results] == [0, None, 2, 3, 4]
    for result, (_, context) in zip(results, PAIRS, strict=True):
        assert context[result["start"] : result["end"]] == result["text"]


def test_answer_lines_with_a_byte_order_mark_and_windows_line_ends(
    flags: list[str], feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ids: list[Any] = [51870, "51870", 0, None, -(2**63)]
    entries = [{"id": i, "question": q, "context": c} for i, (q, c) in zip(ids, PAIRS, strict=True)]
    text = "\r\n".join(json.dumps(entry) for entry in entries) + "\r\n\r\n"
    feed(b"\xef\xbb\xbf" + text.encode())
    assert run_command(answer.main, flags) == 0
    results = lines(capsys.readouterr().out)
    # Written back as they came, and of the type that they came in.
    assert [(one["id"], type(one["id"])) for one in results] == [(i, type(i)) for i in ids]


def test_a_context_file_with_a_byte_order_mark(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question, context = PAIRS[0]
    results = []
    for name, mark in (("plain", b""), ("marked", b"\xef\xbb\xbf")):
        (tmp_path / name).write_bytes(mark + context.encode())
        texts = ["--question", question, "--context_file", str(tmp_path / name)]
        assert run_command(answer.main, [*flags, *texts]) == 0
        results.append(capsys.readouterr().out)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{oops", "stdin, line 3: is not valid JSON"),
        (b"[1]", "stdin, line 3: got list, want an object"),
        (b'{"question": "who"}', "stdin, line 3: context: is missing"),
        (b'{"question": "", "context": "x"}', "stdin, line 3: question: got ''"),
        (b'{"question": 7, "context": "x"}', "stdin, line 3: question: got int, want str"),
        (b'{"question": "q", "context": "a\\u0000"}', "stdin, line 3: context: got a NUL"),
        ('{"question": "q", "context": "\u0301"}'.encode(), "line 3: context: got text without"),
        (b"\xff\xfe", "stdin, line 3: is not valid JSON"),
    ],
)
def test_a_bad_line_is_named_after_the_answers_before_it(
    line: bytes,
    message: str,
    flags: list[str],
    feed: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = json.dumps({"question": PAIRS[0][0], "context": PAIRS[0][1]}).encode()
    feed(good + b"\n\n" + line + b"\n" + good)
    assert run_command(answer.main, flags) == 2
    out, err = capsys.readouterr()
    assert len(lines(out)) == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_program_that_waits_for_its_answer_gets_it() -> None:
    reader, writer = os.pipe()
    batches = lines_module.batches(reader)
    for number in range(1, 4):
        os.write(writer, b"line\npart")
        assert next(batches) == [(number, b"line" if number == 1 else b"partline")]
    os.write(writer, b"!")
    os.close(writer)
    assert next(batches) == [(4, b"part!")]
    assert list(batches) == []
    os.close(reader)


def test_lines_are_read_where_pipes_cannot_be_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    def select(*_: object) -> None:
        raise OSError(10038, "not a socket")  # Windows

    monkeypatch.setattr(lines_module.select, "select", select)
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\nth")
    batches = lines_module.batches(reader)
    assert next(batches) == [(1, b"one"), (2, b"two")]
    os.write(writer, b"ree")
    os.close(writer)
    rest = [line for batch in batches for line in batch]
    os.close(reader)
    assert rest == [(3, b"three")]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--question", "q"], "--context, --context_file: got neither"),
        (["--question", "q", "--context", "c", "--context_file", "f"], "got both"),
        (["--context", "c"], "--question: is missing"),
        (["--question", "q", "--context", "c", "--top_k", "0"], "got '0'"),
        (["--question", "q", "--context", "c", "--doc_stride", "x"], "--doc_stride"),
    ],
)
def test_wrong_flags(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        answer.main(argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--question", " ", "--context", "c"], "error: question: got ' '"),
        (["--question", "q", "--context", "c", "--engine", "x"], "unknown name 'x'"),
        (["--question", "q", "--context", "c", "--device", "npu"], "device: got 'npu'"),
        (["--question", "q", "--context", "c", "--max_seq_length", "128"], "max_seq_length"),
        (["--question", "q", "--context", "c", "--doc_stride", "64"], "doc_stride"),
        (["--question", "q", "--context", "c", "--max_overlap", "2"], "max_overlap: got 2.0, want"),
        (["--question", "q", "--context", "c", "--artifact", "/nothing"], "/nothing"),
        (["--question", "q", "--context_file", "/nothing"], "/nothing: No such file"),
    ],
)
def test_what_cannot_be_answered_is_one_line(
    flags: list[str], argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(answer.main, [*flags, *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_context_file_that_is_not_utf8(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"caf\xe9")
    assert run_command(answer.main, [*flags, "--question=q", f"--context_file={path}"]) == 2
    assert "is not UTF-8 at byte 3" in capsys.readouterr().err


def write_squad(path: Path) -> None:
    questions = [
        {"id": f"q{i}", "question": question, "answers": [{"text": "cat", "answer_start": 0}]}
        for i, (question, _) in enumerate(PAIRS)
    ]
    paragraphs = [
        {"context": context, "qas": [entry]}
        for entry, (_, context) in zip(questions, PAIRS, strict=True)
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}))


def test_evaluate(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, result, predictions = (tmp_path / name for name in ("d.json", "r.json", "p.json"))
    write_squad(data)
    argv = ["--data", str(data), "--json", str(result), "--predictions", str(predictions)]
    assert run_command(evaluate.main, [*flags, *argv, "--limit", "4"]) == 0
    values = json.loads(result.read_text())
    assert (values["total"], values["engine"], values["precision"]) == (4, "onnxruntime", "float32")
    assert 0 <= values["exact_match"] <= values["f1"] <= 100
    assert values["questions_per_second"] > 0
    error = values["expected_calibration_error"]
    assert 0 <= error <= 1
    assert values["limits"]["max_seq_length"] == 48
    assert sorted(json.loads(predictions.read_text())) == ["q0", "q1", "q2", "q3"]
    out = capsys.readouterr().out
    assert "over 4 questions" in out
    assert f"expected calibration error of the scores {error:.4f}\n" in out


def test_evaluate_nothing(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(evaluate.main, [*flags, "--data", "/nothing.json"]) == 2
    assert "/nothing.json" in capsys.readouterr().err


def test_doctor(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "doctor.json"
    assert run_command(doctor.main, [*flags[:2], "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["engines"]["onnxruntime"] is None
    assert report["engines"]["torch"]
    assert report["auto"]["engine"] == "onnxruntime"
    assert report["threads"]["default"] >= 1
    out = capsys.readouterr().out
    for word in ("versions", "cpu", "threads", "native", "artifact", "engine", "auto"):
        assert f"\n{word} " in f"\n{out}"


def test_doctor_of_no_artifact(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(doctor.main, ["--artifact", "/nothing"]) == 2
    assert "/nothing" in capsys.readouterr().err


def test_doctor_without_an_embedded_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "bert_rt.artifact.artifact.__file__", str(tmp_path / "artifact" / "artifact.py")
    )
    assert run_command(doctor.main, []) == 0
    assert "no embedded default model" in capsys.readouterr().out


def test_demo(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(demo.main, flags) == 0
    out = capsys.readouterr().out
    questions = [question for passage in demo._read_passages() for question in passage.questions]
    assert len(questions) >= 8
    assert all(question in out for question in questions)


def test_the_demo_has_a_passage_of_several_windows(shared_dir: Path) -> None:
    tokenizer = Tokenizer.from_directory(shared_dir / "models" / "minilm-l6-squad")
    passages = demo._read_passages()
    lengths = [len(tokenizer.encode(passage.context).input_ids) for passage in passages]
    assert len(passages) >= 3
    assert max(lengths) > 512


def test_the_demo_fails_where_an_answer_is_no_slice(
    flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_read_passages", lambda: [demo._Passage("t", "the cat", ("who",))])
    real = demo._check_slice
    monkeypatch.setattr(demo, "_check_slice", lambda got, context: real(got, context[1:]))
    assert run_command(demo.main, flags) == 2
    assert "the passage's own text" in capsys.readouterr().err


def test_stdin_on_a_terminal_is_no_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(SystemExit):
        answer.main([])
    assert "got neither, nor JSON lines on stdin" in capsys.readouterr().err
