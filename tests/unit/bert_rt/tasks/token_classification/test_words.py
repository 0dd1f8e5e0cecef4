"""Tests of bert_rt.tasks.token_classification.words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from bert_rt.errors import EmptyInputError
from bert_rt.tasks.token_classification.words import find_words, join_words, place_words
from bert_rt.text.tokenization import Tokenizer
from tests.support.data.text import make_tokenizer, texts
from tests.support.families import write_byte_level_bpe, write_unigram

TEXTS = {
    "The cat, unaffable: in Paris.": ["The", "cat", ",", "unaffable", ":", "in", "Paris", "."],
    "  caf\u00e9\tna\u00efve\n(42%) ": ["caf\u00e9", "na\u00efve", "(", "42", "%", ")"],
    # A soft hyphen, which some tokenizers drop, ends no word; nor does an accent by itself.
    "so\u00adft e\u0301x": ["so\u00adft", "e\u0301x"],
    "\u4e2d\u6587 the": ["\u4e2d", "\u6587", "the"],
}


@pytest.fixture(scope="module", params=["wordpiece", "bytes", "unigram"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    if request.param == "wordpiece":
        return make_tokenizer()
    path: Path = tmp_path_factory.mktemp(request.param)
    {"bytes": write_byte_level_bpe, "unigram": write_unigram}[request.param](path)
    return Tokenizer.from_directory(path)


def words_of(text: str, tokenizer: Tokenizer) -> list[str]:
    words = find_words(text, tokenizer.encode(text).offsets)
    return [text[start:end] for start, end in words.spans_W2.tolist()]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_the_same_with_every_tokenizer(text: str, tokenizer: Tokenizer) -> None:
    got = words_of(text, tokenizer)
    if "\u4e2d" in text:  # pieces of SentencePiece hold several characters
        assert "".join(got) == text.replace(" ", "") and got[-1] == "the"
    elif "\u00ad" in text or "(" in text:
        # Unknown characters and marks may be one piece with their neighbours.
        assert "".join(got) == "".join(text.split())
    else:
        assert got == TEXTS[text]


@pytest.mark.parametrize("text", TEXTS)
def test_words_of_wordpiece(text: str) -> None:
    assert words_of(text, make_tokenizer()) == TEXTS[text]


@given(texts)
def test_every_visible_token_is_in_one_word(text: str) -> None:
    tokenizer = make_tokenizer()
    offsets = tokenizer.encode(text).offsets
    try:
        words = find_words(text, offsets)
    except EmptyInputError:
        assert not any(text[start:end].strip() for start, end in offsets.tolist())
        return
    starts, ends = words.spans_W2.T
    assert (starts < ends).all() and (starts[1:] >= ends[:-1]).all()
    assert (offsets[words.first_W, 0] == starts).all() and (np.diff(words.first_W) > 0).all()
    for start, end in offsets.tolist():
        if text[start:end].strip():
            assert ((starts <= start) & (end <= ends)).sum() == 1
    for start, end in words.spans_W2.tolist():
        assert not text[start].isspace() and not text[end - 1].isspace()


def test_words_that_are_given_keep_their_ends(tokenizer: Tokenizer) -> None:
    given_words = ["The", "un-affable", "U.S.", "cat", "42%"]
    text, spans = join_words(given_words)
    offsets = tokenizer.encode(text).offsets
    words = place_words(text, spans, offsets)
    assert [text[start:end] for start, end in words.spans_W2.tolist()] == given_words
    # The first token that reaches into the word.
    for (start, end), first in zip(spans, words.first_W.tolist(), strict=True):
        assert offsets[first, 0] < end and offsets[first, 1] > start
        assert first == 0 or offsets[first - 1, 1] <= start or offsets[first - 1, 0] >= start


def test_a_word_without_a_token_is_named() -> None:
    text, spans = join_words(["the", "\u200b", "cat"])
    with pytest.raises(
        EmptyInputError, match=r"^words\[1\]: got '\\u200b', a word without a single"
    ):
        place_words(text, spans, make_tokenizer().encode(text).offsets)
    text, spans = join_words(["the", "\u200b"])
    with pytest.raises(EmptyInputError, match=r"^words\[1\]"):
        place_words(text, spans, make_tokenizer().encode(text).offsets)
    with pytest.raises(EmptyInputError, match="text without a single token"):
        find_words("\u200b", make_tokenizer().encode("\u200b").offsets)
