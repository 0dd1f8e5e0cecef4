"""Reading rows: formats, compressions, places, and what is wrong with rows and files."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import InputError
from bert_rt.tasks.question_answering.rows import AnswerRows, PairColumns
from runtime.batch import sources
from runtime.batch.sources import Row, read_rows
from runtime.batch.streams import compress, split_name
from tests.unit.runtime.batch.support import pairs, write_jsonl, write_parquet

_FORM = AnswerRows()


def read(path: Path, format_name: str | None = None) -> list[Row]:
    def check(names: Any) -> Any:
        return [*_FORM.required(names, PairColumns()), *({"id"} & {*names})]

    return list(read_rows(str(path), format_name, _FORM, check))


def fields(path: Path) -> list[dict[str, Any]]:
    return [dict(row.fields()) for row in read(path)]


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_all_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = pairs(11)
    document = {"data": [{"title": "t", "paragraphs": []}]}
    for row in rows:
        question = {"id": row["id"], "question": row["question"], "answers": []}
        document["data"][0]["paragraphs"].append({"context": row["context"], "qas": [question]})  # type: ignore[index,attr-defined]
    (tmp_path / "squad.json").write_text(json.dumps(document))
    flat = [{**row, "answers": []} for row in rows]
    (tmp_path / "flat.json").write_text(json.dumps(flat, indent=1))
    write_jsonl(tmp_path / "lines.json", rows)
    write_jsonl(tmp_path / "a.jsonl", rows)
    write_csv(tmp_path / "a.csv", rows)
    write_parquet(tmp_path / "a.parquet", rows)
    plain = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(plain[:50]) + gzip.compress(plain[50:]))
    (tmp_path / "a.jsonl.zst").write_bytes(
        compress(plain[:50], "zst") + compress(plain[50:], "zst")
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 8
    for name in names:
        got = [{key: row[key] for key in rows[0]} for row in fields(tmp_path / name)]
        assert got == rows, name
    # A quoted field with a line end within is one row; its number is the line where it begins.
    assert [row.number for row in read(tmp_path / "a.csv")][-1] > len(rows) + 1


def test_tsv_with_and_without_quotes(tmp_path: Path) -> None:
    glue = tmp_path / "glue.tsv"
    glue.write_text('question\tcontext\n"who\tis "it"\n')
    assert fields(glue) == [{"question": '"who', "context": 'is "it"'}]
    quoted = tmp_path / "quoted.tsv"
    quoted.write_text('"question"\t"context"\n"who ""is"""\t"a\tb\nc"\n')
    assert fields(quoted) == [{"question": 'who "is"', "context": "a\tb\nc"}]


def test_bad_rows_cost_no_other(tmp_path: Path) -> None:
    good = '{"question": "who", "context": "the cat", "x": NaN}'
    lines = [good, "nonsense", "[1]", "", good, '{"a": "\\x"}', good]
    path = write_jsonl(tmp_path / "a.jsonl", lines)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b'\xff{"a": 1}\r\n' + good.encode())
    rows = read(path)
    assert [row.number for row in rows] == [1, 2, 3, 5, 6, 7, 8, 9]
    errors = []
    for row in rows:
        try:
            row.fields()
        except InputError as error:
            errors.append((row.place, str(error)[:30]))
    assert errors == [
        ("line 2", "is not valid JSON: Expecting v"),
        ("line 3", "got list, want an object"),
        ("line 6", "is not valid JSON: Invalid \\es"),
        ("line 8", "is not valid JSON: 'utf-8' cod"),
    ]


def test_bad_rows_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'question,context\r\nwho,cat\r\nwho\r\n"a" b,c\r\nwh\xff,cat\r\n\r\n"who\r\nis",cat\r\nq,c'
    )
    rows = read(path)
    found = []
    for row in rows:
        try:
            found.append((row.number, row.fields()["question"]))
        except InputError as error:
            found.append((row.number, str(error)[:19]))
    assert found == [
        (2, "who"),
        (3, "got 1 fields, want "),
        (4, "is not valid CSV: '"),
        (5, "is not UTF-8"),
        (7, "who\r\nis"),
        (9, "q"),
    ]


def test_a_field_may_be_long_and_a_line_must_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = write_csv(tmp_path / "a.csv", [{"question": "who", "context": "cat " * 100_000}])
    assert len(fields(long)[0]["context"]) == 400_000
    monkeypatch.setattr(sources, "_MAX_LINE_BYTES", 100)
    good = {"question": "who", "context": "cat"}
    path = write_jsonl(tmp_path / "a.jsonl", [good, {"x": "y" * 1000}, good])
    first, second, third = read(path)
    assert (first.number, second.number, third.number) == (1, 2, 3)
    with pytest.raises(InputError, match="got more than 100 bytes, want less"):
        second.fields()
    assert third.fields() == good


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl.gz", b"nonsense", "named .gz, but not a whole file of that kind"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:-9],
            "not a whole file of that kind",
        ),
        ("a.jsonl.zst", b"nonsense", "named .zst, but not a whole file of that kind"),
        ("a.parquet", b"nonsense", "is not a Parquet file that can be read"),
        ("a.json", b'{"data": 7}', "data: got an integer, want a list"),
        ("a.json", b"\xff\xfe{}", "not UTF-8 at byte 0"),
        ("a.xml", b"<a/>", "ends in 'xml', want .jsonl, .ndjson, .json, .csv, .tsv, .parquet"),
        ("a.csv", b"question,text\na,b\n", "line 1: got the columns 'question', 'text'; want 'con"),
        ("a.csv", b"question,question\na,b\n", "line 1: got a column twice"),
        ("a.csv", b"", "line 1: got the columns ; want 'question' among them"),
        ("none.jsonl", None, "none.jsonl: cannot be read: No such file"),
        ("none.parquet", None, "none.parquet: cannot be read: No such file"),
        ("none.csv.gz", None, "none.csv.gz: cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value) and name in str(caught.value)


def test_parquet_reads_only_what_is_needed(tmp_path: Path) -> None:
    rows = [{**row, "embedding": [1.0] * 9} for row in pairs(7)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    assert [sorted(row) for row in fields(path)] == [["context", "id", "question"]] * 7
    bad = write_parquet(tmp_path / "b.parquet", [{"question": "who"}])
    with pytest.raises(InputError, match=r"b\.parquet: got the columns 'question'; want 'context'"):
        read(bad)


def test_names_say_kind_and_compression() -> None:
    assert split_name("a/b.c.CSV.GZ") == ("csv", "gz")
    assert split_name("a.zst") == ("", "zst")
    assert split_name("rows") == ("", "")
    assert compress(b"x" * 999, "gz") == compress(b"x" * 999, "gz")
