"""Tests of what bert_rt.tasks.question_answering.squad takes, refuses and leaves out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import InputError
from bert_rt.support.faults import Dropped
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad, write_predictions


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def document_of(*entries: dict[str, Any], context: str = "The \u732b sat.") -> dict[str, Any]:
    return {"data": [{"paragraphs": [{"context": context, "qas": list(entries)}]}]}


def entry(identifier: Any, text: str = "sat", start: int = 6, **fields: Any) -> dict[str, Any]:
    answers = [{"text": text, "answer_start": start}]
    return {"id": identifier, "question": "What?", "answers": answers, **fields}


@pytest.mark.parametrize("identifier", [51870, 0, -3, 2**70, "51870", "", "a b"])
def test_ids_are_labels(tmp_path: Path, identifier: str | int) -> None:
    (example,) = read_squad(write(tmp_path / "squad.json", document_of(entry(identifier))))
    assert example.id == identifier and type(example.id) is type(identifier)
    assert example.place == f"{tmp_path / 'squad.json'}: question {identifier!r}"
    write_predictions(tmp_path / "p.json", {example.id: "sat"})
    assert json.loads((tmp_path / "p.json").read_text()) == {str(identifier): "sat"}


def test_predictions_of_integer_and_other_ids_stand_together(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.json", {7: "a", "x": "b", 10: ""})
    assert json.loads((tmp_path / "p.json").read_text()) == {"7": "a", "x": "b", "10": ""}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((1, 1), "got the id 1 twice, want unique ids"),
        ((1, "1"), "got the ids 1 and '1', want ids that differ as text"),
        (("01", 1), None),
    ],
)
def test_ids_that_would_be_one_in_a_predictions_file(
    tmp_path: Path, ids: tuple[Any, Any], message: str | None
) -> None:
    path = write(tmp_path / "squad.json", document_of(*map(entry, ids)))
    if message is None:
        assert [example.id for example in read_squad(path)] == list(ids)
        return
    with pytest.raises(InputError, match=message):
        read_squad(path)


def test_fields_that_other_tools_leave_out_or_add(tmp_path: Path) -> None:
    document = document_of(
        entry(1, is_impossible=0, plausible_answers=[{"text": 3}], document_id=5),
        entry(2, is_impossible=None, answer_category=None),
        {"id": 3, "question": "Why?", "is_impossible": True},
        {"id": 4, "question": "Why?", "is_impossible": 1, "answers": None},
        {"id": 5, "question": "Why?", "is_impossible": False, "answers": []},
        {"id": 6, "question": "Why?", "answers": {"text": [], "answer_start": []}},
    )
    document["data"][0]["title"] = None
    examples = read_squad(write(tmp_path / "squad.json", document))
    assert [example.is_impossible for example in examples] == [False] * 2 + [True] * 4
    assert {example.title for example in examples} == {""}
    document["data"][0]["title"] = 1984
    assert read_squad(write(tmp_path / "squad.json", document))[0].title == "1984"


def flat(identifier: Any, **fields: Any) -> dict[str, Any]:
    answers = {"text": ["sat", "The"], "answer_start": [6, 0]}
    values = {"id": identifier, "title": "t", "context": "The \u732b sat.", "question": "What?"}
    return {**values, "answers": answers, **fields}


FLAT = [flat("a"), flat(2, answers=[{"text": "sat", "answer_start": 6}]), flat("c", title=None)]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"version": "2.0", "data": FLAT}, indent=1)),
        ("a.json.gz", json.dumps({"data": FLAT})),
        ("a.json", json.dumps(FLAT)),
        ("a.jsonl", "\n".join(map(json.dumps, FLAT))),
        ("a.json", "\n\n".join(map(json.dumps, FLAT)) + "\n\n"),
        ("a.jsonl.gz", "\n".join(json.dumps(one, ensure_ascii=False) for one in FLAT) + "\n"),
    ],
)
def test_flat_forms(tmp_path: Path, name: str, text: str, mark: str, newline: str) -> None:
    data = (mark + text.replace("\n", newline)).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    context = "The \u732b sat."
    examples = read_squad(path)
    assert examples == [
        SquadExample("a", "t", "What?", context, ("sat", "The"), (6, 0), False),
        SquadExample(2, "t", "What?", context, ("sat",), (6,), False),
        SquadExample("c", "", "What?", context, ("sat", "The"), (6, 0), False),
    ]
    assert examples[0].context is examples[2].context


def test_one_line_is_a_file(tmp_path: Path) -> None:
    assert [e.id for e in read_squad(write(tmp_path / "a.jsonl", flat(7)))] == [7]


def test_a_flat_record_without_a_field_is_named(tmp_path: Path) -> None:
    records = [flat("a"), flat("b"), flat("c")]
    del records[1]["context"], records[2]["answers"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(InputError) as caught:
        read_squad(path)
    assert str(caught.value) == (
        f"{path}: got 2 faults: line 2.context: is missing, want a string; "
        "line 3.answers: is missing, want a list"
    )


@pytest.mark.parametrize("name", ["integer-ids.json", "flat-squad.json", "flat-squad.jsonl"])
def test_shared_cases(shared_dir: Path, name: str) -> None:
    (example,) = read_squad(shared_dir / "cases" / name)
    assert example.id == (51870 if name == "integer-ids.json" else "q1")
    assert (example.answers, example.answer_starts) == (("Karl von Frisch",), (0,))
    assert not example.is_impossible


def test_all_misaligned_answers_are_reported_at_once(tmp_path: Path) -> None:
    entries = [entry(i, "sat", 6 if i % 10 == 0 else i) for i in range(1, 61)]
    path = write(tmp_path / "squad.json", document_of(*entries, context="sat sat sat " * 8))
    with pytest.raises(InputError) as caught:
        read_squad(path, check_positions=True)
    message = str(caught.value)
    wrong = [i for i in range(1, 61) if i % 10 == 0 or i % 4]
    assert message.startswith(f"{path}: got {len(wrong)} faults: question 1: answers[0].answer_s")
    assert message.count("answer_start: got") == 20
    assert f"; and {len(wrong) - 20} more (--drop_invalid leaves out" in message
    assert "question 1: answers[0].answer_start: got 1, where the context has 'at '" in message
    assert "answer 'sat', which is at 0, 4, 8, ..." in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "start", "message"),
    [
        ("sat", 5, "got 5, where the context has ' sa', want the answer 'sat', which is at 6"),
        ("dog", 0, "got 0, where the context has 'The', want the answer 'dog', which is nowhere"),
        ("sat.", 7, "got 7, where the context has 'at.', want the answer 'sat.', which is at 6"),
        ("The", 10, "got 10, where the context has '', want the answer 'The', which is at 0"),
        ("sat", 99, r"got 99, want a position in the context \(0 to 10\), which is at 6"),
        ("", 3, "got 3 for the answer '', want text"),
    ],
)
def test_a_misaligned_answer(
    tmp_path: Path, text: str, start: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    document = document_of(entry("q", text, start), entry("r"))
    path = write(tmp_path / "squad.json", document)
    with pytest.raises(InputError, match=rf"question 'q': answers\[0\]\.answer_start: {message}"):
        read_squad(path, check_positions=True)
    if start > 10:
        return
    # Scores compare texts, so that an evaluation goes on.
    assert [example.id for example in read_squad(path)] == ["q", "r"]
    (warning,) = caplog.messages
    assert warning.startswith(f"{path}: 1 answers do not stand at their answer_start, which exact")
    caplog.clear()
    dropped = Dropped()
    assert [example.id for example in read_squad(path, dropped=dropped)] == ["r"]
    assert dropped == Dropped(items=1)
    assert caplog.messages[0].startswith(f"{path}: left out 1 of 2 questions: question 'q'")


def test_an_answer_of_several_is_dropped_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    two = {"text": ["sat", "sat"], "answer_start": [6, 5]}
    both = {"text": ["sat", "x"], "answer_start": [7, 0]}
    path.write_text("\n".join(map(json.dumps, [flat(1, answers=two), flat(2, answers=both)])))
    dropped = Dropped()
    (example,) = read_squad(path, dropped=dropped)
    assert (example.id, example.answer_starts, example.is_impossible) == (1, (6,), False)
    assert dropped == Dropped(items=1, answers=1)
    assert "left out 1 of 2 questions and 1 answers of others: question 1: ans" in caplog.text


BAD_TEXTS = ["", " \t\n", "a\0b", "\u0301\u200b", "\ud800", "x" * 10_000_001]


@pytest.mark.parametrize("text", BAD_TEXTS)
@pytest.mark.parametrize("name", ["question", "context"])
def test_texts_that_cannot_be_answered(tmp_path: Path, name: str, text: str) -> None:
    records = [flat("good"), flat("bad", **{name: text}), flat("bad2", **{name: text})]
    for record in records[1:]:
        record["answers"] = {"text": [], "answer_start": []}
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(InputError) as caught:
        read_squad(path)
    start = f"{path}: got 2 faults: question 'bad': {name}: got "
    assert str(caught.value).startswith(start)
    assert f"question 'bad2': {name}: got" in str(caught.value)
    assert len(str(caught.value)) < 1000
    dropped = Dropped()
    assert [example.id for example in read_squad(path, dropped=dropped)] == ["good"]
    assert dropped.items == 2


def test_the_form_is_no_matter_of_dropping(tmp_path: Path) -> None:
    records = [flat("good"), flat("blank", question=""), flat("odd", question=3)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    for dropped in (None, Dropped()):
        with pytest.raises(InputError, match=r"line 3\.question: got an integer") as caught:
            read_squad(path, dropped=dropped)
        assert ("question 'blank'" in str(caught.value)) == (dropped is None)
        assert "--drop_invalid" not in str(caught.value)


def test_nothing_left(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", flat("blank", question=""))
    with pytest.raises(InputError, match="got 0 questions that can be used, want at least 1"):
        read_squad(path, dropped=Dropped())
