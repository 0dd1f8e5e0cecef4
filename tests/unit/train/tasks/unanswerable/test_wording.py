"""Tests of train.tasks.unanswerable.wording."""

from __future__ import annotations

import pytest

from train.tasks.unanswerable.wording import WordKinds, content_words, number_kind, words_of

TEXTS = (
    "The king lived in Paris. In Paris he met men and women, and the women or men of Rome.",
    "She lived in Rome and in Oslo. Suddenly the Bank of England was closed by Mary Stuart's men.",
    "A lamp seen by Mary, or by a friend of Mary. The king and the men in Bern.",
    "The women and men came.",
)


@pytest.fixture(scope="module")
def kinds() -> WordKinds:
    return WordKinds(TEXTS)


def test_words() -> None:
    text = "Which 1,000 kings' non-stop 5% U.S. trips didn't end?"
    assert words_of(text) == (
        ["which", "1,000", "kings", "non-stop", "5%", "u.s", "trips", "didn't", "end"]
    )
    assert content_words("Which of the kings was it?") == {"kings"}


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("1066", "number"),
        ("1999", "year"),
        ("1990s", "decade"),
        ("19th", "ordinal"),
        ("7.5%", "percent"),
        ("31", "small"),
        ("4.5", "decimal"),
        ("12,000", "number"),
        ("seven", "count"),
        ("third", "rank"),
        ("a1", ""),
    ],
)
def test_kinds_of_numbers(word: str, kind: str) -> None:
    assert number_kind(word) == kind


def test_names_and_numbers_of_a_text(kinds: WordKinds) -> None:
    text = "Suddenly Mary Stuart's ship left the Bank of England in March 1850. Paris was calm."
    assert [(span.text, span.kind) for span in kinds.spans(text)] == [
        ("Mary Stuart", "name"),
        ("Bank of England", "name"),
        ("March", "month"),
        ("1850", "year"),
        ("Paris", "name"),
    ]
    assert all(text[span.start : span.end] == span.text for span in kinds.spans(text))
    # A capital at the beginning of a sentence says nothing of a word that is never a name.
    assert [span.text for span in kinds.spans("The men. I saw. Women?")] == []


def test_names_that_stand_in_like_places_are_alike(kinds: WordKinds) -> None:
    assert kinds.likeness("Paris", "Paris") == pytest.approx(1.0)
    assert kinds.likeness("Paris", "Rome") > kinds.likeness("Paris", "Mary")
    assert kinds.likeness("Paris", "Nowhere") == 0.0


def test_words_that_and_joins(kinds: WordKinds) -> None:
    assert kinds.joined_with("men", most=3) == ["women"]
    assert kinds.joined_with("women", most=3) == ["men"]
    assert kinds.joined_with("men", most=0) == kinds.joined_with("king", most=3) == []
