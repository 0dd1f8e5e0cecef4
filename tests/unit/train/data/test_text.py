from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bert_rt.errors import InputError
from bert_rt.text.sentences import split_sentences
from train.data.text import MAX_LINE_BYTES, read_documents, read_lines


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('"Really?" said he. "Yes!" "No."', ['"Really?" said he.', '"Yes!"', '"No."']),
        ("Mr. Smith met J. R. Tolkien and Dr. Who.", ["Mr. Smith met J. R. Tolkien and Dr. Who."]),
        ("The U.S. Army, at 3.5 p.m. daily.", ["The U.S. Army, at 3.5 p.m. daily."]),
        ("It ended... And then?", ["It ended...", "And then?"]),
        ("Wait... \u00e9t\u00e9 came.", ["Wait... \u00e9t\u00e9 came."]),
        ("  white \t space\u00a0only  ", ["white space only"]),
        (" \t\r", []),
    ],
)
def test_sentences(line: str, sentences: list[str]) -> None:
    assert split_sentences(line) == sentences


def test_no_character_is_lost() -> None:
    line = "A. B! (C) 'D?' \"E.\" F.G. H ... I?! J" * 5
    assert "".join(split_sentences(line)).replace(" ", "") == line.replace(" ", "")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_documents_end_at_blank_lines_and_files(name: str, tmp_path: Path) -> None:
    text = "\ufeffOne. Two.\r\nThree.\r\n \r\n\r\n\r\nFour.".encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    documents = list(read_documents([file, file], max_sentences=100))
    assert documents == [["One.", "Two.", "Three."], ["Four."]] * 2


def test_long_documents_are_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("One. Two. Three.\nFour. Five.\n")
    documents = list(read_documents([file], max_sentences=2))
    assert documents == [["One.", "Two."], ["Three.", "Four."], ["Five."]]


def test_bytes_that_are_not_utf8_are_found_by_line_and_byte(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"good\n\xc3\xa9 bad \xff\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2: not UTF-8 at byte 12: 0xff"):
        list(read_lines(file))


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress(b"line\n" * 1000)[:-9])
    with pytest.raises(InputError, match=r"a\.gz: named \.gz, but not a whole gzip file"):
        list(read_lines(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.txt: cannot be read: No such file"):
        list(read_lines(tmp_path / "absent.txt"))


def test_a_file_without_line_ends_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * (MAX_LINE_BYTES + 1))
    with pytest.raises(InputError, match=r"a\.txt, line 1: got more than 16777216 bytes"):
        list(read_lines(file))
