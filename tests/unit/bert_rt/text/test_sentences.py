"""Tests of bert_rt.text.sentences; those of train.data.text have more of split_sentences."""

from __future__ import annotations

import pytest
from hypothesis import given

from bert_rt.text.sentences import sentence_spans, split_sentences
from tests.support.data.text import texts


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", []),
        (" \n\n ", []),
        ("  One.  Two!\n", ["One.", "Two!"]),
        ("Dr. Who sat. He  ran\nfar? yes", ["Dr. Who sat.", "He  ran\nfar? yes"]),
        ("A title\n\nThe text. More\n \t\n\nEnd", ["A title", "The text.", "More", "End"]),
        ('He said "No." (Why?) In 3.5 days.', ['He said "No."', "(Why?)", "In 3.5 days."]),
    ],
)
def test_sentences_are_slices(text: str, want: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == want


@given(texts)
def test_spans_hold_every_character_but_white_space(text: str) -> None:
    spans = sentence_spans(text)
    last = 0
    for start, end in spans:
        assert last <= start < end and not text[last:start].strip()
        assert not text[start].isspace() and not text[end - 1].isspace()
        last = end
    assert not text[last:].strip()


@given(texts)
def test_a_line_is_split_as_it_is_found(text: str) -> None:
    line = " ".join(text.split())
    assert split_sentences(text) == [line[start:end] for start, end in sentence_spans(line)]
