"""Tests of bert_rt.tasks.translation.pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bert_rt.errors import ConfigError, InputError
from bert_rt.support.faults import Dropped
from bert_rt.tasks.translation.pairs import PairLayout, pair_files, read_pairs

EN_DE = PairLayout(source_lang="en", target_lang="de")
PAIRS = [("A dog.", "Ein Hund."), ("Two\x0cdogs.", "Zwei Hunde.")]


def write(file: Path, text: str) -> Path:
    data = text.encode()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


def texts(path: Path, layout: PairLayout = EN_DE) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in read_pairs(path, layout)]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_file_a_language(tmp_path: Path, end: str) -> None:
    for language, side in (("en", 0), ("de", 1)):
        lines = "\r\n".join(pair[side] for pair in PAIRS)
        write(tmp_path / f"train.{language}{end}", lines + "\r\n" * side)
    assert texts(tmp_path / "train") == PAIRS
    back = PairLayout(source_lang="de", target_lang="en")
    assert texts(tmp_path / "train", back) == [(target, source) for source, target in PAIRS]
    names = [file.name for file in pair_files(tmp_path / "train", EN_DE)]
    assert names == [f"train.en{end}", f"train.de{end}"]
    assert read_pairs(tmp_path / "train", EN_DE)[1].place.endswith(f"train.en{end}, line 2")


@pytest.mark.parametrize("names", [("source", "target"), ("en", "de")])
@pytest.mark.parametrize("end", ["jsonl", "json.gz", "tsv", "csv"])
def test_tables(tmp_path: Path, names: tuple[str, str], end: str) -> None:
    if "json" in end:
        rows = [json.dumps(dict(zip(names, pair, strict=True))) for pair in PAIRS]
    else:
        sign = "\t" if end == "tsv" else ","
        rows = [sign.join(row) for row in (names, *PAIRS)]
    file = write(tmp_path / f"train.{end}", "\n".join(rows) + "\n")
    assert texts(file) == PAIRS
    assert pair_files(file, EN_DE) == (file,)
    if names == ("source", "target"):
        assert texts(file, PairLayout()) == PAIRS


def test_the_form_of_hugging_face(tmp_path: Path) -> None:
    rows = [json.dumps({"id": 1, "translation": {"en": en, "de": de}}) for en, de in PAIRS]
    file = write(tmp_path / "train.jsonl", "\n".join(rows))
    assert texts(file) == PAIRS
    want = r"line 1: got the fields \['de', 'en'\], want 'source' and 'target', or --source_lang"
    with pytest.raises(InputError, match=want):
        read_pairs(file, PairLayout())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"source": "a", "target": ""}', "line 2: target: got '', want text"),
        ('{"source": " ", "target": "b"}', "line 2: source: got ' ', want text"),
        ('{"source": 3, "target": "b"}', "line 2: source: got int, want str"),
        ('{"source": "a"}', r"line 2: got the fields \['source'\], want 'source' and 'target'"),
        ('{"source": "a", ', "line 2: is not valid JSON"),
        ('["a", "b"]', "line 2: got list, want an object"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path: Path, row: str, message: str) -> None:
    good = '{"source": "a", "target": "b"}'
    file = write(tmp_path / "train.jsonl", f"{good}\n{row}\n")
    with pytest.raises(InputError, match=message):
        read_pairs(file, PairLayout())
    dropped = Dropped()
    assert len(read_pairs(file, PairLayout(), dropped=dropped)) == 1
    assert dropped.items == 1


def test_an_empty_line_of_one_language_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train.en", "a\n\nc\n")
    write(tmp_path / "train.de", "x\ny\nz\n")
    with pytest.raises(InputError, match=r"train.en, line 2: source: got ''"):
        read_pairs(tmp_path / "train", EN_DE)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "train.en", "a\nb\n")
    with pytest.raises(InputError, match=r"got none of .*train.de and train.de.gz, want one"):
        read_pairs(tmp_path / "train", EN_DE)
    write(tmp_path / "train.de", "x\n")
    with pytest.raises(InputError, match=r"train.en: got 2 lines, and train.de has 1; want as"):
        read_pairs(tmp_path / "train", EN_DE)
    write(tmp_path / "train.de.gz", "x\ny\n")
    with pytest.raises(InputError, match=r"got both of .*train.de and train.de.gz, want one"):
        read_pairs(tmp_path / "train", EN_DE)
    with pytest.raises(InputError, match=r"no such file; where it stands for a file a language"):
        read_pairs(tmp_path / "train", PairLayout())
    with pytest.raises(InputError, match=r"ends in 'en', want tsv, csv, jsonl, json, or one of"):
        read_pairs(tmp_path / "train.en", EN_DE)
    with pytest.raises(InputError, match=r"none.jsonl: cannot be read"):
        read_pairs(tmp_path / "none.jsonl", EN_DE)
    with pytest.raises(InputError, match=r"empty.jsonl: got 0 pairs, want at least 1"):
        read_pairs(write(tmp_path / "empty.jsonl", "\n"), EN_DE)


def test_languages_are_named_together() -> None:
    with pytest.raises(ConfigError, match="target_lang: got nothing, want both languages or none"):
        PairLayout(source_lang="en")
    with pytest.raises(ConfigError, match="source_lang: got nothing"):
        PairLayout(target_lang="de")
    with pytest.raises(ConfigError, match="target_lang: got 'en', which is source_lang, too"):
        PairLayout(source_lang="en", target_lang="en")
