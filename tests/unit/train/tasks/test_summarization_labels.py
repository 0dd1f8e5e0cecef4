"""Tests of train.tasks.summarization.labels."""

from __future__ import annotations

import numpy as np
import pytest

from train.tasks.summarization.labels import (
    greedy_labels,
    greedy_sentences,
    sentence_rouge,
    soft_labels,
)

SENTENCES = ["the cat sat", "on the mat", "in paris it rains", "nobody knows"]
# With endings that the stemmer takes away, signs, digits and letters beyond a to z.
TEXTS = [
    "The cats were sitting on mats, running; U.S. sales rose 4.5% in the U.S.",
    "A cat sits on the mat and runs: sales are rising by 4.5 percent.",
    "Na\u00efve caf\u00e9s' generalization generalizes (generally) to re-generated data.",
    "General data are naive.",
    "?!",
]


def test_counts_are_those_of_rouge_score_with_its_stemmer() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=True)
    for reference in TEXTS:
        scores = [scorer.score(reference, text) for text in TEXTS]
        want = [50 * (s["rouge1"].fmeasure + s["rouge2"].fmeasure) for s in scores]
        assert sentence_rouge(TEXTS, [reference]).tolist() == pytest.approx(want)
    assert max(sentence_rouge(TEXTS[:1], [TEXTS[1]])) > 20


def test_the_greedy_sentence_is_the_one_that_rouge_score_ranks_first() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2"], use_stemmer=True)
    words = [word for text in TEXTS for word in text.split()]
    random = np.random.default_rng(3)
    for _ in range(30):
        *sentences, reference = (" ".join(random.choice(words, 9)) for _ in range(6))
        scores = [scorer.score(reference, sentence) for sentence in sentences]
        values = [score["rouge1"].fmeasure + score["rouge2"].fmeasure for score in scores]
        assert greedy_sentences(sentences, [reference], 1) == (int(np.argmax(values)),)


def test_sentences_that_are_to_be_chosen() -> None:
    assert greedy_sentences(SENTENCES, ["on the mat the cat sat"], 3) == (0, 1)
    assert greedy_sentences(SENTENCES, ["on the mat the cat sat"], 1) == (0,)
    assert greedy_sentences(SENTENCES, ["xyz", "it rains in paris"], 3) == (2,)
    # Nothing in common: no sentence.
    assert greedy_sentences(SENTENCES, ["xyz"], 3) == ()
    assert greedy_labels(SENTENCES, ["on the mat the cat sat"], 3).tolist() == [1, 1, 0, 0]


def test_soft_labels_follow_rouge() -> None:
    references = ["the cat sat on the mat", "who knows"]
    rouge_S = sentence_rouge(SENTENCES, references)
    labels_S = soft_labels(SENTENCES, references, 1, temperature=5.0)
    assert labels_S.sum() == pytest.approx(1)
    assert np.log(labels_S[0] / labels_S[2]) == pytest.approx((rouge_S[0] - rouge_S[2]) / 5)
    assert (np.argsort(labels_S) == np.argsort(rouge_S)).all()
    # Nearly all for the best one, and the same for all.
    assert soft_labels(SENTENCES, ["the cat sat"], 1, temperature=0.1)[0] > 0.99
    even_S = soft_labels(SENTENCES, ["xyz"], 3, temperature=5.0)
    assert even_S.tolist() == pytest.approx([0.75] * 4)
    # A label is at most 1, however many places there are.
    assert soft_labels(SENTENCES, references, 9, temperature=5.0).max() == 1
