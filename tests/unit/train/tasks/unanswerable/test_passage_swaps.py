"""Tests of train.tasks.unanswerable.passage_swaps."""

from __future__ import annotations

import pytest

from bert_rt.tasks.question_answering.squad import SquadExample
from train.tasks.unanswerable.passage_swaps import Article, holds_answer, without_answer

CONTEXT = "The cat sat in Paris. It was cold. The dog ran to Rome in 1850. Nobody saw it."


def example(question: str, context: str, *answers: str) -> SquadExample:
    return SquadExample("q", "", question, context, answers, (0,) * len(answers), False)


@pytest.mark.parametrize(
    ("answers", "held"),
    [
        (("paris",), True),
        (("Bern", "Rome"), True),
        (("the summer of 1850",), True),  # its number
        (("Rome, where the dog ran",), True),  # all that it is about
        (("the other dog",), True),
        (("Bern",), False),
        (("the cold north",), False),
        (("1851",), False),
        (("the",), True),
    ],
)
def test_traces_of_an_answer(answers: tuple[str, ...], held: bool) -> None:
    assert holds_answer(CONTEXT, answers) == held


def test_the_sentences_with_the_answer_are_taken_out() -> None:
    left = "The cat sat in Paris. It was cold. Nobody saw it."
    assert without_answer(example("When?", CONTEXT, "1850")) == left
    # A second gold answer, and one in other words.
    assert without_answer(example("?", CONTEXT, "1850", "Paris")) == "It was cold. Nobody saw it."
    assert without_answer(example("?", CONTEXT + " The year 1850.", "in 1850")) is None
    # The answer is not within a sentence, and too little would be left.
    assert without_answer(example("?", CONTEXT, "Paris. It was")) is None
    assert without_answer(example("?", "The cat. The dog. The mat.", "cat", "mat")) is None


def test_the_closest_paragraph_without_the_answer() -> None:
    contexts = (
        "the painter sailed to Oslo with salt in 1850",
        "the painter sailed to Bern with salt in 1860",
        "the painter sailed to Bern with salt and gold in 1870",
        "the painter sailed to Bern with salt, a dog and a ship",
        "the sea is wide and 1880 was a good year for salt",
    )
    article = Article(contexts)
    asked = "Where was the salt that the painter sailed with from?"
    assert list(article.closest(example(asked, contexts[0], "Oslo"))) == [1, 2, 3]
    gold = "When was the salt and gold of the painter sold?"
    assert next(article.closest(example(gold, contexts[0], "1850"))) == 2
    # A number is answered by a number; that of the answer is no other one.
    assert sorted(article.closest(example(asked, contexts[0], "1860"))) == [0, 2]
    assert not list(article.closest(example("What is a whale?", contexts[0], "fish")))
