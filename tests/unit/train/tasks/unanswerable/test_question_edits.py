"""Tests of train.tasks.unanswerable.question_edits."""

from __future__ import annotations

import random

import pytest

from bert_rt.tasks.question_answering.squad import SquadExample
from train.tasks.unanswerable.question_edits import EDITS, Passage, edit_question
from train.tasks.unanswerable.wording import WordKinds

CONTEXT = (
    "In 1850 the painter Ada Brook lived in Paris. The first ship sailed with bread and butter. "
    "Much later the painter Finn Grant stayed in Oslo until 1871. Brook never saw it."
)
ELSEWHERE = (
    "In 1902 the painter Eva Frost lived in Rome with bread and butter.",
    "The painter Cora Dale stayed in Lima and ate bread or butter. No bread and butter was left.",
)
KINDS = WordKinds([CONTEXT, *ELSEWHERE])


def edits(kind: str, question: str, answer: str, *others: str, context: str = CONTEXT) -> set[str]:
    """Return all that a question becomes."""
    example = SquadExample("q", "", question, context, (answer,), (0,), False)
    asked = frozenset(text.lower() for text in (question, *others))
    passage = Passage(context, asked, KINDS)
    article = [passage, *(Passage(text, frozenset(), KINDS) for text in ELSEWHERE)]
    found = {
        edit_question(kind, example, passage, article, random.Random(seed)) for seed in range(40)
    }
    return {text for text in found if text is not None}


def test_names_become_names_of_their_kind() -> None:
    found = edits("name", "What did Ada Brook do in 1850?", "lived")
    assert "What did Finn Grant do in 1850?" in found
    # Neither a part of the name nor what the answer says.
    assert "What did Brook do in 1850?" not in found
    found = edits("name", "Who lived in Paris?", "Ada Brook")
    assert found == {"Who lived in Oslo?"}
    # Both names stand where the answer does, and nothing else is like them.
    assert edits("name", "Who was with Ada Brook?", "Finn Grant", context="Ada Brook, Finn Grant.")


def test_a_name_that_is_not_in_the_paragraph_stays() -> None:
    assert edits("name", "Who lived in Berlin?", "Ada Brook") == set()


def test_numbers_become_numbers_of_their_kind() -> None:
    found = edits("number", "Who lived in Paris in 1850?", "Ada Brook")
    assert "Who lived in Paris in 1871?" in found
    # Where it stands beside what is asked about, it may be the answer to another question.
    context = "In 1850 Ada Brook lived in Paris, and in 1871 Finn Grant lived in Paris."
    found = edits("number", "Who lived in Paris in 1850?", "Ada Brook", context=context)
    assert found
    assert "Who lived in Paris in 1871?" not in found


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What did the first ship carry?", {"What did the last ship carry?"}),
        ("First to sail was what?", {"Last to sail was what?"}),
        ("Was it an early ship?", {"Was it a late ship?"}),
        ("How old was the ship?", set()),
        ("At least how much was it?", set()),
        ("Which first and last ship?", set()),
    ],
)
def test_opposites(question: str, wanted: set[str]) -> None:
    assert edits("opposite", question, "bread") == wanted


def test_an_opposite_that_the_paragraph_answers_is_not_asked_for() -> None:
    context = "The first ship was blue. The last ship was red."
    question = "What was the first ship?"
    assert edits("opposite", question, "blue", context=context) == set()
    asked = "What did the last ship carry?"
    assert edits("opposite", "What did the first ship carry?", "bread", asked) == set()


def test_nouns_become_what_and_joins_them_with() -> None:
    assert edits("noun", "How many ships had bread?", "one") == {"How many ships had butter?"} or (
        # "butter" stands in the same sentence of this paragraph.
        edits("noun", "How many ships had bread?", "one") == set()
    )
    context = "The ship sailed with bread. It was in Oslo."
    found = edits("noun", "Which ship had bread?", "Oslo", context=context)
    assert found == {"Which ship had butter?"}


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("When did she live in Paris?", {"When didn't she live in Paris?"}),
        ("Can she swim?", {"Can't she swim?"}),
        ("Who was seen?", {"Who was not seen?", "Who was never seen?"}),
        ("Who was not seen?", {"Who was seen?"}),
        ("Who didn't come?", {"Who did come?"}),
        ("Who came?", set()),
    ],
)
def test_negations(question: str, wanted: set[str]) -> None:
    assert edits("negation", question, "Ada Brook") == wanted


@pytest.mark.parametrize("kind", EDITS)
def test_the_same_draw_gives_the_same_question(kind: str) -> None:
    question = "When was the first ship of Ada Brook in Paris with bread seen, in 1850?"
    example = SquadExample("q", "", question, CONTEXT, ("never",), (0,), False)
    passage = Passage(CONTEXT, frozenset({question.lower()}), KINDS)
    first, again = (
        edit_question(kind, example, passage, [passage], random.Random(3)) for _ in range(2)
    )
    assert first == again != question
