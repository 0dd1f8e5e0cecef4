"""Tests of runtime.classify, and of the other commands on a text classifier."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_rt.api import Runtime
from bert_rt.support.cli import run_command
from runtime import answer, classify, doctor, evaluate
from tests.support.artifacts import LABELS, write_tiny_artifact, write_tiny_classifier

TEXTS = ("the cat sat on the mat", "who is in paris?", "x y z")


@pytest.fixture(scope="module")
def artifact_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classify") / "artifact"
    write_tiny_classifier(path)
    return path


@pytest.fixture(scope="module")
def flags(artifact_dir: Path) -> list[str]:
    return ["--artifact", str(artifact_dir), "--engine", "onnxruntime", "--num-threads", "1"]


@pytest.fixture(scope="module")
def want(artifact_dir: Path) -> dict[str, str]:
    with Runtime.load(artifact_dir, engine="onnxruntime") as runtime:
        results = runtime.classify_batch(TEXTS)
    return {text: result.label for text, result in zip(TEXTS, results, strict=True)}


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


def test_one_text(
    flags: list[str], want: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(classify.main, [*flags, "--text", TEXTS[0], "--top_k", "3"]) == 0
    (result,) = lines(capsys.readouterr().out)
    assert result["label"] == want[TEXTS[0]] == LABELS[result["index"]]
    every = [result, *result["alternatives"]]
    assert sorted(each["label"] for each in every) == sorted(LABELS)
    assert sum(each["score"] for each in every) == pytest.approx(1)
    pair = ["--text", TEXTS[0], "--text-pair", TEXTS[1]]
    assert run_command(classify.main, [*flags, *pair]) == 0
    (paired,) = lines(capsys.readouterr().out)
    assert paired["logit"] != result["logit"]


@pytest.mark.parametrize("is_json", [False, True])
def test_lines_with_a_byte_order_mark(
    is_json: bool,
    flags: list[str],
    want: dict[str, str],
    feed: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = [json.dumps({"text": text}) if is_json else text for text in TEXTS]
    feed(b"\xef\xbb\xbf" + "\r\n".join(inputs).encode() + b"\r\n\r\n")
    assert run_command(classify.main, flags) == 0
    assert [each["label"] for each in lines(capsys.readouterr().out)] == list(want.values())


def test_lines_of_text(
    flags: list[str],
    want: dict[str, str],
    feed: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    feed("\r\n\n".join(TEXTS).encode())
    assert run_command(classify.main, flags) == 0
    assert [each["label"] for each in lines(capsys.readouterr().out)] == list(want.values())


def test_lines_of_json(
    flags: list[str],
    want: dict[str, str],
    feed: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries: list[dict[str, Any]] = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    entries[1] |= {"text_pair": None}
    feed("\n".join(json.dumps(entry) for entry in entries).encode())
    assert run_command(classify.main, flags) == 0
    results = lines(capsys.readouterr().out)
    assert [(each["id"], each["label"]) for each in results] == list(enumerate(want.values()))


def test_the_format_can_be_given(
    flags: list[str], feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    feed(b'{"text": "the cat"}\n')
    assert run_command(classify.main, [*flags, "--format", "json"]) == 0
    from_json = lines(capsys.readouterr().out)
    feed(b'{"text": "the cat"}\n')
    assert run_command(classify.main, [*flags, "--format", "text"]) == 0
    from_text = lines(capsys.readouterr().out)
    assert from_json != from_text
    feed(b"the cat\n")
    assert run_command(classify.main, flags) == 0
    assert lines(capsys.readouterr().out) == from_json


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": ', "stdin, line 3: is not valid JSON"),
        (b'{"id": 1}', "stdin, line 3: text: is missing"),
        (b'{"text": 7}', "stdin, line 3: text: got int, want str"),
        (b'{"text": "a", "text_pair": ""}', "stdin, line 3: text_pair: got ''"),
        (b"[1]", 'stdin, line 3: got list, want an object {"text"}'),
        ('{"text": "\u0301"}'.encode(), "stdin, line 3: text: got text without a single token"),
    ],
)
def test_a_bad_line_is_named_after_the_classes_before_it(
    line: bytes,
    message: str,
    flags: list[str],
    feed: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    feed(b'{"text": "the cat"}\n\n' + line + b'\n{"text": "x"}')
    assert run_command(classify.main, flags) == 2
    out, err = capsys.readouterr()
    assert len(lines(out)) == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_line_that_is_no_text(
    flags: list[str], feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    feed(b"the cat\ncaf\xe9\n")
    assert run_command(classify.main, flags) == 2
    assert "stdin, line 2: is not UTF-8 at byte 3" in capsys.readouterr().err


def test_wrong_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        classify.main(["--text_pair", "a"])
    assert caught.value.code == 2
    assert "--text: is missing" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["doc_stride", "max_query_length", "n_best_size"])
def test_limits_of_another_task_are_one_error(
    flag: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "a", "label": "good"}\n')
    assert run_command(evaluate.main, [*flags, "--data", str(data), f"--{flag}", "12"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert f"{flag}: got 12, but a text-classification model has no such setting" in err
    assert "it has max_seq_length" in err
    assert run_command(classify.main, [*flags, "--text", "a", "--max_seq_length", "12"]) == 0


def test_help_offers_only_flags_that_mean_something(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        classify.main(["--help"])
    shown = capsys.readouterr().out
    assert "--max_seq_length" in shown
    for flag in ("doc_stride", "max_query_length", "n_best_size", "version_2_with_negative"):
        assert flag not in shown
        with pytest.raises(SystemExit) as caught:
            classify.main([*flags, "--text", "a", f"--{flag}", "12"])
        assert caught.value.code == 2


def test_commands_of_another_task_say_which_to_take(
    flags: list[str],
    tmp_path: Path,
    feed: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for argv in (["--question", "who", "--context", "the cat"], []):
        feed(b"")
        assert run_command(answer.main, [*flags, *argv]) == 2
        err = capsys.readouterr().err
        assert "got a text-classification artifact, which is asked with `classify`" in err
    write_tiny_artifact(tmp_path / "a")
    for argv in (["--text", "the cat"], []):
        feed(b"")
        assert run_command(classify.main, ["--artifact", str(tmp_path / "a"), *argv]) == 2
        err = capsys.readouterr().err
        assert "got a question-answering artifact, which is asked with `answer`" in err


def test_evaluate(
    flags: list[str], want: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, result, predictions = (tmp_path / name for name in ("d.tsv", "r.json", "p.json"))
    wrong = next(label for label in LABELS if label != want[TEXTS[0]])
    rows = [(TEXTS[0], wrong), *list(want.items())[1:], ("not looked at", wrong)]
    data.write_text("words\tgold\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    argv = ["--data", str(data), "--text-column", "words", "--label_column", "gold", "--limit", "3"]
    files = ["--json", str(result), "--predictions", str(predictions)]
    assert run_command(evaluate.main, [*flags, *argv, *files]) == 0
    values = json.loads(result.read_text())
    assert values["accuracy"] == pytest.approx(200 / 3)
    assert 0 < values["macro_f1"] < 100
    assert (values["total"], values["engine"]) == (3, "onnxruntime")
    assert values["texts_per_second"] > 0
    assert list(json.loads(predictions.read_text()).values()) == list(want.values())
    assert "accuracy 66.67, " in capsys.readouterr().out


def test_evaluate_on_labels_that_are_not_the_models(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "a", "label": "good"}\n{"text": "b", "label": "great"}\n')
    assert run_command(evaluate.main, [*flags, "--data", str(data)]) == 2
    err = capsys.readouterr().err
    assert "d.jsonl, line 2: label: got 'great', want one of the model's 3 classes" in err


def test_doctor(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(doctor.main, flags[:2]) == 0
    assert "text-classification" in capsys.readouterr().out
