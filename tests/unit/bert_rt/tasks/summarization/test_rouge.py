"""Tests of bert_rt.tasks.summarization.rouge."""

from __future__ import annotations

import pytest

from bert_rt.tasks.summarization.rouge import best_rouge, greedy_sentences, rouge

# What rouge-score 0.1.2 gives without its stemmer, in percent.
CASES = [
    ("The cat sat on the mat.", "A cat was on the mat", [66.666667, 40.0, 66.666667]),
    ("U.S. sales rose 4.5%", "Sales in the U.S. rose by 4.5 percent", [75.0, 28.571429, 62.5]),
    ("x", "y", [0.0, 0.0, 0.0]),
]


@pytest.mark.parametrize(("summary", "reference", "want"), CASES)
def test_rouge_is_that_of_rouge_score(summary: str, reference: str, want: list[float]) -> None:
    assert rouge(summary, reference) == pytest.approx(want, abs=1e-5)
    assert rouge(reference, summary) == pytest.approx(want, abs=1e-5)


def test_the_reference_that_is_nearest() -> None:
    assert best_rouge("a b c", ["x", "a b c d", "a"]) == rouge("a b c", "a b c d")
    assert rouge("", "a") == rouge("?", "!") == (0, 0, 0)


def test_sentences_that_are_to_be_chosen() -> None:
    sentences = ["the cat sat", "on the mat", "in paris it rains", "nobody knows"]
    assert greedy_sentences(sentences, ["on the mat the cat sat"], 3) == (0, 1)
    assert greedy_sentences(sentences, ["on the mat the cat sat"], 1) == (0,)
    assert greedy_sentences(sentences, ["xyz", "it rains in paris"], 3) == (2,)
    # Nothing in common: no sentence.
    assert greedy_sentences(sentences, ["xyz"], 3) == ()
