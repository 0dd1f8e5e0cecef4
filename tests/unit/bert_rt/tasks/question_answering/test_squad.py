"""Unit tests of bert_rt.tasks.question_answering.squad."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import InputError
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad, write_predictions

DOCUMENT: dict[str, Any] = {
    "version": "1.1",
    "data": [
        {
            "title": "Cats",
            "paragraphs": [
                {
                    "context": "The \u732b sat.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "Who sat?",
                            "answers": [
                                {"text": "\u732b", "answer_start": 4},
                                {"text": "The \u732b", "answer_start": 0},
                            ],
                        },
                        {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                },
                {"context": "No question.", "qas": []},
            ],
        },
        {
            "paragraphs": [
                {
                    "context": "Dogs.",
                    "qas": [
                        {
                            "id": "q3",
                            "question": "What?",
                            "answers": [{"text": "Dogs", "answer_start": 0}],
                        }
                    ],
                }
            ]
        },
    ],
}


def write(path: Path, document: Any) -> Path:
    """Write a document as JSON, gzipped where the name says so."""
    data = json.dumps(document).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["squad.json", "squad.json.gz"])
def test_read_squad(tmp_path: Path, name: str) -> None:
    examples = read_squad(write(tmp_path / name, DOCUMENT))
    assert examples == [
        SquadExample(
            id="q1",
            title="Cats",
            question="Who sat?",
            context="The \u732b sat.",
            answers=("\u732b", "The \u732b"),
            answer_starts=(4, 0),
            is_impossible=False,
        ),
        SquadExample("q2", "Cats", "Why?", "The \u732b sat.", (), (), True),
        SquadExample("q3", "", "What?", "Dogs.", ("Dogs",), (0,), False),
    ]
    assert examples[0].context is examples[1].context


def test_a_byte_order_mark_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "squad.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(DOCUMENT).encode())
    assert len(read_squad(path)) == 3


def test_no_answers_mean_impossible_where_the_file_does_not_say(tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    del document["data"][0]["paragraphs"][0]["qas"][1]["is_impossible"]
    assert read_squad(write(tmp_path / "squad.json", document))[1].is_impossible


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, r"absent\.json: cannot be read: No such file"),
        ("plain.json.gz", b'{"data": []}', r"plain\.json\.gz: named \.gz, but not a whole gzip"),
        ("cut.json.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], "named .gz, but not a whole gzip"),
        ("packed.json", gzip.compress(b"{}", mtime=0), "not UTF-8 at byte 1"),
        ("bad.json", b'{"data":\n [,]}', "not JSON at line 2, column 3"),
        ("empty.json", b"", "not JSON at line 1, column 1"),
        ("deep.json", b"[" * 200_000, "JSON that cannot be read"),
        ("list.json", b"[]", "got 0 questions, want at least 1"),
        (
            "lines.jsonl",
            b'{"a": 1}\n{"b": 2}',
            r"line 1: got an object with 'a'; want \"paragraphs\"",
        ),
        ("cut.jsonl", b'{"id": 1, "context": "x"}\n{"b" 2}', "line 2: is not valid JSON: Exp"),
        ("text.json", b'"text"', 'the document: got a string; want an object with "data", a list'),
        ("utf16.json", "{}".encode("utf-16"), "not UTF-8 at byte 0, in line 1: .* UTF-16"),
        ("none.json", b'{"data": []}', "got 0 questions, want at least 1"),
    ],
)
def test_unreadable_files_are_one_clear_error(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_squad(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_squad(tmp_path)


QA = ("data", 0, "paragraphs", 0, "qas", 0)
REMOVE = object()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            ("data",),
            REMOVE,
            "the document: got an object with 'version'; want .*paragraphs.*answers.*JSON Lines",
        ),
        (("data",), {}, "data: got an object, want a list"),
        (("data", 1), "x", r"data\[1\]: got a string, want an object"),
        (
            ("data", 1),
            {"x": 1},
            r"data\[1\]: got an object with 'x'; want .*paragraphs.*run_qa",
        ),
        (("data", 0, "title"), [], r"\.title: got a list, want a string"),
        (("data", 0, "paragraphs"), None, r"data\[0\]\.paragraphs: got null, want a list"),
        ((*QA[:5], 0), [], r"qas\[0\]: got a list, want an object"),
        ((*QA[:4], "context"), REMOVE, r"data\[0\]\.paragraphs\[0\]\.context: is missing"),
        ((*QA, "id"), 7.5, r"data\[0\]\.paragraphs\[0\]\.qas\[0\]\.id: got a number, want a str"),
        ((*QA, "id"), True, r"qas\[0\]\.id: got a boolean, want a string or an integer"),
        ((*QA, "id"), REMOVE, r"qas\[0\]\.id: is missing, want a string or an integer"),
        ((*QA, "question"), REMOVE, r"qas\[0\]\.question: is missing, want a string"),
        ((*QA, "answers"), REMOVE, r"qas\[0\]\.answers: is missing, want a list"),
        ((*QA, "is_impossible"), "false", r"is_impossible: got 'false', want true or false"),
        ((*QA, "is_impossible"), 2, r"is_impossible: got 2, want true or false"),
        ((*QA, "is_impossible"), 1, "is_impossible: got true, want false beside gold answers"),
        ((*QA, "answers"), "cat", r"qas\[0\]\.answers: got a string, want a list"),
        ((*QA, "answers"), {"text": []}, r"answers\.answer_start: is missing, want a list"),
        (
            (*QA, "answers"),
            {"text": ["The"], "answer_start": []},
            r"answers\.answer_start: got 0 positions, want 1, as many as texts",
        ),
        (
            (*QA, "answers"),
            {"text": [1], "answer_start": [0]},
            r"answers\[0\]\.text: got an integer, want a string",
        ),
        ((*QA, "is_impossible"), True, "is_impossible: got true, want false beside gold answers"),
        ((*QA, "answers", 1, "text"), REMOVE, r"qas\[0\]\.answers\[1\]\.text: is missing"),
        ((*QA, "answers", 1, "answer_start"), "0", "answer_start: got a string, want an integer"),
        ((*QA, "answers", 1, "answer_start"), True, "answer_start: got a boolean, want an int"),
        ((*QA, "answers", 1, "answer_start"), -1, r"answer_start: got -1, want .* \(0 to 10\)"),
        ((*QA, "answers", 1, "answer_start"), 11, r"answer_start: got 11, want .* \(0 to 10\)"),
        ((*QA, "id"), "q3", "got the id 'q3' twice, want unique ids"),
    ],
)
def test_wrong_structure_names_the_place(
    tmp_path: Path, keys: tuple[str | int, ...], value: Any, message: str
) -> None:
    document: Any = copy.deepcopy(DOCUMENT)
    parent = document
    for key in keys[:-1]:
        parent = parent[key]
    if value is REMOVE:
        del parent[keys[-1]]
    else:
        parent[keys[-1]] = value
    with pytest.raises(InputError, match=message):
        read_squad(write(tmp_path / "squad.json", document))


def test_write_predictions_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text("old")
    predictions = {"q1": "caf\u00e9 \U0001f600", "q2": ""}
    write_predictions(path, predictions)
    assert json.loads(path.read_text(encoding="utf-8")) == predictions
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.json"]


def test_write_predictions_leaves_the_old_file_where_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_predictions(path, {"q1": object()})  # type: ignore[dict-item]
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.json"]


def test_predictions_that_cannot_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        write_predictions(tmp_path, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "total", "num_answers", "num_impossible", "num_contexts"),
    [
        ("dev-v1.1.json.gz", 10_570, 34_726, 0, 2_067),
        ("dev-v2.0.json.gz", 11_873, 20_302, 5_945, 1_204),
    ],
)
def test_official_files(
    shared_dir: Path,
    name: str,
    total: int,
    num_answers: int,
    num_impossible: int,
    num_contexts: int,
) -> None:
    examples = read_squad(shared_dir / "data" / "squad" / name)
    assert len(examples) == total
    assert sum(len(one.answers) for one in examples) == num_answers
    assert sum(one.is_impossible for one in examples) == num_impossible
    assert len({id(one.context) for one in examples}) == num_contexts
    for one in examples:
        for text, start in zip(one.answers, one.answer_starts, strict=True):
            assert one.context[start : start + len(text)] == text
