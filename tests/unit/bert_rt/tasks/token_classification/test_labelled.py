"""Tests of bert_rt.tasks.token_classification.labelled."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import InputError
from bert_rt.support.faults import Dropped
from bert_rt.tasks.token_classification.labelled import (
    LabelledWords,
    read_labelled,
    tag_indices,
    tag_names,
)
from bert_rt.tasks.token_classification.layout import WordFields

GOOD = {"words": ["Peter", "ran"], "tags": ["B-PER", "O"]}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def examples(*tags: str) -> list[LabelledWords]:
    return [
        LabelledWords(tuple("w" for _ in row.split()), tuple(row.split()), f"f, line {number}")
        for number, row in enumerate(tags, start=1)
    ]


@pytest.mark.parametrize("names", [("words", "tags"), ("tokens", "ner_tags"), ("words", "labels")])
def test_reads_the_usual_names(names: tuple[str, str], tmp_path: Path) -> None:
    row = dict(zip(names, GOOD.values(), strict=True)) | {"id": 3}
    path = write(tmp_path / "a.jsonl", row, row)
    first, second = read_labelled(path)
    assert first == LabelledWords(("Peter", "ran"), ("B-PER", "O"), f"{path}, line 1")
    assert second.place == f"{path}, line 2"
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [e.tags for e in read_labelled(packed)] == [first.tags, second.tags]


def test_reads_fields_by_their_names(tmp_path: Path) -> None:
    row = {"t": ["a", "b"], "pos": [3, " 0 "], **GOOD}
    path = write(tmp_path / "a.jsonl", row)
    (example,) = read_labelled(path, WordFields(words_field="t", tags_field="pos"))
    assert (example.words, example.tags) == (("a", "b"), ("3", "0"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a"]}, "got the fields ['words']; want 'tags' or 'ner_tags' or 'labels' among"),
        ({**GOOD, "tokens": ["a"]}, "want 'words' or 'tokens' among them, or --words_field"),
        ({**GOOD, "words": "Peter ran"}, "words: got 'Peter ran', want a list"),
        ({**GOOD, "words": []}, "words: got none, want at least one word"),
        ({**GOOD, "tags": ["O"]}, "tags: got 1 for 2 words, want as many"),
        ({**GOOD, "words": ["a", " "]}, "words[1]: got ' ', want text"),
        ({**GOOD, "words": ["a", "\u200b"]}, "words[1]: got text without a letter"),
        ({**GOOD, "words": ["a", 3]}, "words[1]: got int, want str"),
        ({**GOOD, "tags": ["O", None]}, "tags[1]: got None, want a label's name or number"),
        ({**GOOD, "tags": ["O", True]}, "tags[1]: got True, want a label's name or number"),
        ([1], "got list, want an object"),
    ],
)
def test_faults_are_named(row: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, row)
    with pytest.raises(InputError) as caught:
        read_labelled(path)
    assert f"{path}, line 2: " in str(caught.value) and message in str(caught.value)
    dropped = Dropped()
    assert len(read_labelled(path, dropped=dropped)) == 1 and dropped.items == 1


def test_faults_are_named_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {}, GOOD, {"words": ["a"], "tags": []})
    with pytest.raises(InputError, match=r"got 2 faults: line 1: .*; line 3: tags: got 0 for 1"):
        read_labelled(path)
    with pytest.raises(InputError, match=r"ends in 'txt', want \.jsonl"):
        read_labelled(tmp_path / "a.txt")


def test_labels_of_data() -> None:
    rows = examples("O I-PER B-PER", "B-LOC O")
    assert tag_names(rows) == ("O", "B-LOC", "B-PER", "I-PER")
    assert tag_names(examples("10 2 0")) == ("0", "2", "10")
    with pytest.raises(InputError, match=r"tags: got 1 label \('O'\), want at least 2"):
        tag_names(examples("O O"))


def test_places_of_labels() -> None:
    names = ("O", "B-LOC")
    assert tag_indices(examples("B-LOC O", "1 0"), names) == [[1, 0], [1, 0]]
    with pytest.raises(InputError) as caught:
        tag_indices(examples("O X", "X Y 2"), names)
    assert str(caught.value) == (
        "f, line 1: tags: got 'X'; f, line 2: tags: got 'Y'; f, line 2: tags: got '2', "
        "want labels among the model's 2: 'O', 'B-LOC'"
    )
