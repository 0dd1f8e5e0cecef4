"""Tests of bert_rt.tasks.text_classification.labelled."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bert_rt.errors import EmptyInputError, InputError
from bert_rt.model.labels import class_index
from bert_rt.support.faults import Dropped
from bert_rt.tasks.text_classification.labelled import (
    LabelledText,
    class_indices,
    class_names,
    encode_labelled,
    read_labelled,
)
from bert_rt.tasks.text_classification.rows import Columns
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput


def write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def pairs(examples: list[LabelledText]) -> list[tuple[str, str | None, str]]:
    return [(e.input.text, e.input.text_pair, e.label) for e in examples]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.TSV"])
def test_tsv(name: str, tmp_path: Path) -> None:
    # Quotes, form feeds and separators of Unicode are characters like any other.
    text = 'id\tsentence\tlabel\r\n1\t"so \x0c \u2028 good\t1\r\n\n2\tbad"\t 0\n'
    examples = read_labelled(write(tmp_path / name, text))
    assert pairs(examples) == [('"so \x0c \u2028 good', None, "1"), ('bad"', None, "0")]
    assert [e.place for e in examples] == [f"{tmp_path / name}, line {n}" for n in (2, 4)]


def test_csv(tmp_path: Path) -> None:
    text = 'text,label,second\n"a ""b"", c\nd",yes,x\n\ne,"no",y\n'
    path = write(tmp_path / "a.csv", "\ufeff" + text)
    examples = read_labelled(path, Columns(text_pair_column="second"))
    assert pairs(examples) == [('a "b", c\nd', "x", "yes"), ("e", "y", "no")]
    assert [e.place for e in examples] == [f"{path}, line {n}" for n in (2, 5)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_jsonl(name: str, tmp_path: Path) -> None:
    rows = [{"premise": "a", "hypothesis": "\u2028", "gold": 0}, {"premise": "b", "gold": "yes"}]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = write(tmp_path / name, text)
    examples = read_labelled(path, Columns(text_column="premise", label_column="gold"))
    assert pairs(examples) == [("a", None, "0"), ("b", None, "yes")]
    assert examples[1].place == f"{path}, line 3"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.txt",
            "x",
            "ends in 'txt', want .tsv, .csv, .jsonl, .json, or that and .gz",
        ),
        ("a.tsv", "", "got 0 rows, want at least 1"),
        ("a.tsv", "sentence\tlabel\n", "got 0 rows"),
        ("a.tsv", "label\tsentence\tlabel\n", "line 1: got a column twice"),
        ("a.tsv", "sentence\tlabel\ngood\t1\nbad\n", "line 3: got 1 fields, want 2"),
        ("a.tsv", "sentence\tlabel\ngood\t1\t\n", "line 2: got 3 fields, want 2"),
        ("a.tsv", "sentence\tlabel\n \t1\n", "line 2: sentence: got ' ', want text"),
        ("a.tsv", "sentence\tlabel\ngo\0od\t1\n", "line 2: sentence: got a NUL"),
        ("a.tsv", "sentence\tlabel\ngood\t\n", "line 2: label: got '', want a class's name or"),
        ("a.tsv", "words\tlabel\ngood\t1\n", "columns 'words', 'label'; want 'sentence' or 'text'"),
        ("a.tsv", "text\tsentence\tlabel\na\tb\t1\n", "want 'sentence' or 'text' among them, or"),
        ("a.tsv", "sentence\tgold\na\t1\n", "columns 'sentence', 'gold'; want 'label' among them"),
        ("a.tsv", b"sentence\tlabel\na\t1\n\xff\t1\n", "not UTF-8 at byte 19, in line 3"),
        ("a.csv", 'text,label\n"a,1\n', "line 2: is not valid CSV"),
        ("a.csv", 'text,label\n"a"b,1\n', "line 2: is not valid CSV"),
        ("a.csv", "text,label\na\n", "line 2: got 1 fields, want 2"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text":', "line 2: is not valid JSON"),
        ("a.jsonl", "[1]", "line 1: got list, want an object"),
        ("a.jsonl", '{"text": 1, "label": 1}', "line 1: text: got int, want str"),
        ("a.jsonl", '{"text": "a", "label": true}', "line 1: label: got True, want a class's"),
        ("a.jsonl", '{"text": "a", "label": 0.5}', "line 1: label: got 0.5, want a class's"),
        ("a.jsonl", '{"text": "a", "label": null}', "line 1: label: got None"),
        ("a.jsonl", '{"text": "a"}', "line 1: got the columns 'text'; want 'label'"),
        ("a.jsonl", '{"label": 1}', "line 1: got the columns 'label'; want 'sentence'"),
    ],
)
def test_errors_name_file_and_line(
    name: str, text: str | bytes, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        read_labelled(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "text\tlabel\na b\t0\nc\t1\n\n"),
        ("a.tsv", '"text"\t"label"\n"a b"\t"0"\n"c"\t1\n'),
        ("a.csv", 'text,label\na b,0\n\n"c",1\n\n'),
        ("a.csv", 'label,"text"\n0,"a b"\n1,c'),
        ("a.jsonl", '{"text": "a b", "label": 0}\n\n{"label": "1", "text": "c"}\n\n'),
        ("a.json", '{"text": "a b", "label": 0}\n{"label": 1, "text": "c", "idx": [1.5]}'),
    ],
)
def test_forms_that_people_have(name: str, text: str, newline: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, "\ufeff" + text.replace("\n", newline))
    assert pairs(read_labelled(path)) == [("a b", None, "0"), ("c", None, "1")]


def test_a_tsv_with_quoted_names_has_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", '"text"\t"label"\n"a ""b""\tc\nd"\t"yes"\n')
    assert pairs(read_labelled(path)) == [('a "b"\tc\nd', None, "yes")]
    path = write(tmp_path / "b.tsv", 'text\tlabel\n"a\tb"\t0\n')
    with pytest.raises(InputError, match=r"line 2: got 3 fields, want 2.*; quotes are read where"):
        read_labelled(path)


BAD = {
    "a.tsv": ["x\t1", "good", "\t1", "y\t", "z\t0\t1", "\u0301\t1"],
    "a.csv": ["x,1", "good", ",1", "y,", "z,0,1", "\u0301,1"],
    "a.jsonl": [
        '{"text": "x", "label": 1}',
        "{oops",
        '{"text": "", "label": 1}',
        '{"text": "y", "label": ""}',
        '{"sentences": "z", "label": 1}',
        '{"text": 3, "label": 1.5}',
    ],
}


@pytest.mark.parametrize("name", BAD)
def test_all_bad_rows_are_reported_at_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = {"a.tsv": "text\tlabel\n", "a.csv": "text,label\n", "a.jsonl": "\n"}[name]
    path = write(tmp_path / name, header + "\n".join(BAD[name]))
    with pytest.raises(InputError) as caught:
        read_labelled(path)
    message = str(caught.value)
    count = 6 if name == "a.jsonl" else 5  # the last line of which has two faults
    assert message.startswith(f"{path}: got {count} faults: line 3: ")
    assert [f"line {n}: " in message for n in range(2, 8)] == [False] + [True] * 5
    assert message.endswith("(--drop_invalid leaves out what cannot be used)")
    dropped = Dropped()
    (example,) = read_labelled(path, dropped=dropped)
    assert (example.input.text, dropped) == ("x", Dropped(items=5))
    assert caplog.messages[0].startswith(f"{path}: left out 5 of 6 rows: line 3: ")


def test_long_lists_of_faults_are_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "text\tlabel\n" + "x\n" * 1000)
    with pytest.raises(InputError, match=r"got 1000 faults: line 2: .*; and 980 more") as caught:
        read_labelled(path)
    assert len(str(caught.value)) < 2000
    with pytest.raises(InputError, match="got 0 rows that can be used"):
        read_labelled(path, dropped=Dropped())


def test_a_missing_pair_and_a_missing_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "sentence\tlabel\na\t1\n")
    with pytest.raises(InputError, match=r"line 2: got the columns .*; want 'second' among them"):
        read_labelled(path, Columns(text_pair_column="second"))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_labelled(tmp_path / "none.tsv")
    (tmp_path / "b.tsv.gz").write_bytes(b"plain")
    with pytest.raises(InputError, match=r"named \.gz, but not a whole gzip file"):
        read_labelled(tmp_path / "b.tsv.gz")


def rows(*labels: str) -> list[LabelledText]:
    return [LabelledText(TextInput("a"), label, f"f, line {n}") for n, label in enumerate(labels)]


def test_class_names() -> None:
    assert class_names(rows("b", "a", "b")) == ("a", "b")
    assert class_names(rows("10", "9", "0")) == ("0", "9", "10")
    assert class_names(rows("10", "9", "x")) == ("10", "9", "x")
    with pytest.raises(InputError, match=r"label: got 1 class .*, want at least 2"):
        class_names(rows("a", "a"))


def test_class_index() -> None:
    names = ("negative", "positive")
    assert [class_index(label, names) for label in ("positive", "0", "1")] == [1, 0, 1]
    for label in ("2", "-1", "neutral", "\u0661", "9" * 5000):
        assert class_index(label, names) is None
    # Where classes are named by numbers, a number is a name and no place.
    assert class_index("2", ("1", "2")) == 1
    assert class_index("0", ("1", "2")) is None


def test_class_indices() -> None:
    assert class_indices(rows("b", "a", "1"), ("a", "b")) == [1, 0, 1]
    with pytest.raises(InputError) as caught:
        class_indices(rows("b", "c"), ("a", "b"))
    assert str(caught.value) == (
        "f, line 1: label: got 'c', want one of the model's 2 classes: 'a', 'b'"
    )
    with pytest.raises(InputError) as caught:
        class_indices(rows("b", "c", "d", "c"), ("a", "b"))
    assert str(caught.value) == (
        "f, line 1: label: got 'c'; f, line 2: label: got 'd' (3 rows have such labels), want one "
        "of the model's 2 classes: 'a', 'b'"
    )


def test_encode_labelled(tokenizer: Tokenizer) -> None:
    examples = rows("x", "y")
    (one, other) = encode_labelled(examples, tokenizer, max_seq_length=16)
    assert (
        one.input_ids.tolist()
        == other.input_ids.tolist()
        == [
            tokenizer.cls_id,
            *tokenizer.encode("a").input_ids,
            tokenizer.sep_id,
        ]
    )
    bad = LabelledText(TextInput("\u0301"), "x", "f, line 7")
    with pytest.raises(EmptyInputError, match=r"^f, line 7: text: got text without a single token"):
        encode_labelled([*examples, bad, *examples], tokenizer, max_seq_length=16)


def test_sst2(shared_dir: Path) -> None:
    dev = read_labelled(shared_dir / "data" / "sst2" / "dev.tsv.gz")
    assert len(dev) == 872
    assert class_names(dev) == ("0", "1")
