"""Tests of bert_rt.tasks.token_classification.evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.tasks.token_classification.evaluation import (
    TagEvaluation,
    chunk_counts,
    evaluate_tags,
    f1_of_counts,
)
from bert_rt.tasks.token_classification.labelled import LabelledWords
from tests.support.artifacts import TAGS, write_tiny_tagger

WORDS = (("the", "cat", "sat"), ("paris", "in", "unaffable", "x"), ("who",))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("tagger") / "artifact"
    write_tiny_tagger(path)
    with Runtime.load(path, engine="onnxruntime") as opened:
        yield opened


def examples(runtime: Runtime) -> list[LabelledWords]:
    """Return words with the labels that the model gives them."""
    results = runtime.tag_batch(WORDS)
    return [
        LabelledWords(words, tuple(word.label for word in result.words), f"line {row}")
        for row, (words, result) in enumerate(zip(WORDS, results, strict=True))
    ]


def test_counts() -> None:
    labels = ("O", "B-A", "I-A", "B-B")
    # "A" of two words found as one of one word; "B" found; another B where there is none.
    assert chunk_counts([1, 0, 3, 3], [1, 2, 3, 0], labels) == (1, 3, 2)
    counts = np.array([[1, 3, 2], [0, 0, 0], [0, 1, 0], [2, 2, 2]])
    np.testing.assert_allclose(f1_of_counts(counts), [40, 100, 0, 100])


def test_what_the_model_says_is_right(runtime: Runtime) -> None:
    rows = examples(runtime)
    result = evaluate_tags(runtime, rows)
    assert result.metrics == {"entity_f1": 100, "word_accuracy": 100}
    assert (result.total, len(result.gold_N)) == (3, 8)
    assert json.loads(result.predictions["1"]) == [*rows[1].tags]
    assert result.words_per_second > 0
    np.testing.assert_allclose(result.raw_score_N, result.score_N)
    figures = result.to_dict()
    assert set(figures["by_entity"].values()) <= {100.0} and figures["num_words"] == 8
    assert "entity F1 100.00, accuracy of words 100.00 over 8 words of 3 texts" in result.describe()


def test_a_wrong_label_costs_its_word_and_its_entity(runtime: Runtime) -> None:
    rows = examples(runtime)
    wrong = next(tag for tag in ("B-LOC", "B-PER") if tag[2:] != rows[2].tags[0][2:])
    rows[2] = LabelledWords(rows[2].words, (wrong,), "line 2")
    result = evaluate_tags(runtime, rows)
    assert result.accuracy == pytest.approx(100 * 7 / 8)
    right, found, wanted = result.counts_Q3.sum(axis=0)
    assert result.entity_f1 == pytest.approx(200 * right / (found + wanted))
    assert result.counts_Q3[2, 2] == 1 and result.counts_Q3[2, 0] == 0


def test_labels_that_are_no_entities_are_judged_by_words() -> None:
    result = TagEvaluation(
        total=2,
        words_per_second=1.0,
        predicted_N=np.array([0, 1, 1]),
        gold_N=np.array([0, 1, 0]),
        text_N=np.array([0, 0, 1]),
        counts_Q3=np.zeros((2, 3), np.int64),
        score_N=np.array([0.5, 0.9, 0.8]),
        raw_score_N=np.array([0.5, 0.9, 0.8]),
        score_temperature=1.0,
        labels=("NOUN", "VERB"),
    )
    assert [*result.metrics] == ["word_accuracy", "macro_f1"]
    assert result.metrics["word_accuracy"] == pytest.approx(200 / 3)
    assert "by_entity" not in result.to_dict()
    assert result.predictions == {"0": '["NOUN", "VERB"]', "1": '["VERB"]'}


def test_nothing_to_evaluate(runtime: Runtime) -> None:
    with pytest.raises(InputError, match="examples: got 0 texts"):
        evaluate_tags(runtime, [])
    bad = [LabelledWords(("a",), ("X",), "f, line 1")]
    with pytest.raises(InputError, match=f"f, line 1: tags: got 'X', .*{TAGS[1]}"):
        evaluate_tags(runtime, bad)
