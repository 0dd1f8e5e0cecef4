"""Tests of compile.tasks.token_classification."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bert_rt.errors import CalibrationError, ConfigError, EmptyInputError, UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.tasks.token_classification.chunks import find_chunks
from bert_rt.tasks.token_classification.evaluation import TagEvaluation, chunk_counts
from bert_rt.tasks.token_classification.labelled import LabelledWords
from compile.tasks.base import Settings
from compile.tasks.registry import all_bars
from compile.tasks.token_classification import Entities, TokenClassification, WordLabels
from tests.support.data.text import make_tokenizer
from tests.unit.compile import tiny

LABELS = ("O", "B-A", "I-A", "B-B", "I-B")
LIMITS = {"max_seq_length": 24, "doc_stride": 4}
TASK = Entities(Settings(limits=LIMITS), labels=LABELS)


def example(words: str, row: int = 0) -> LabelledWords:
    return LabelledWords(tuple(words.split()), ("O",) * len(words.split()), f"f, line {row}")


def evaluation(given: list[list[int]], gold: list[list[int]]) -> TagEvaluation:
    flat = np.array([index for row in given for index in row])
    return TagEvaluation(
        total=len(given),
        words_per_second=1.0,
        predicted_N=flat,
        gold_N=np.array([index for row in gold for index in row]),
        text_N=np.repeat(np.arange(len(gold)), [len(row) for row in gold]),
        counts_Q3=np.array([chunk_counts(*pair, LABELS) for pair in zip(given, gold, strict=True)]),
        score_N=np.full(len(flat), 0.75),
        raw_score_N=np.full(len(flat), 0.5),
        score_temperature=2.0,
        labels=LABELS,
    )


def random_rows(seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 5, random.integers(1, 9)).tolist() for _ in range(40)]


def test_the_labels_decide_what_is_measured() -> None:
    model: Any = tiny.make_model("token-classification", num_labels=2)
    for names, kind in ((("O", "B-A"), Entities), (("NOUN", "VERB"), WordLabels)):
        raw = {"id2label": dict(enumerate(names))}
        part = TokenClassification.for_model(
            LoadedModel(model, tiny.CONFIG, raw, (), ()), Settings()
        )
        assert type(part) is kind and part.labels == names
    twice = LoadedModel(model, tiny.CONFIG, {"id2label": {0: "O", 1: "O"}}, (), ())
    with pytest.raises(
        UnsupportedOpError, match=r"got the labels \['O', 'O'\], want all different"
    ):
        TokenClassification.for_model(twice, Settings())
    assert {"min_entity_f1_ratio", "max_word_accuracy_loss"} <= set(all_bars())
    with pytest.raises(ConfigError, match=r"min_entity_f1_ratio: got 0\.9, but accuracy of words"):
        WordLabels(Settings(bars={"min_entity_f1_ratio": 0.9}), labels=("A", "B"))


def test_resampled_f1_is_that_of_the_entities_drawn() -> None:
    gold, given = random_rows(0), random_rows(0)
    given[3:20] = [[0] * len(row) for row in given[3:20]]
    results = [evaluation(gold, gold), evaluation(given, gold)]
    drawn_RE = TASK.resample(results, np.arange(40))
    assert drawn_RE.shape[1] == 2 and (drawn_RE[:, 0] == 100).all()
    assert drawn_RE[:, 1].mean() == pytest.approx(results[1].entity_f1, abs=0.5)
    assert drawn_RE[:, 1].std() > 1
    # All texts in one cluster: every draw is the whole file.
    whole_RE = TASK.resample(results, np.zeros(40, int))
    np.testing.assert_allclose(whole_RE[:, 1], results[1].entity_f1)


def test_resampled_accuracy_is_that_of_words() -> None:
    part = WordLabels(Settings(limits=LIMITS), labels=("A", "B"))
    gold = [[0] * 10, [0]]
    results = [evaluation([[0] * 10, [0]], gold), evaluation([[0] * 10, [1]], gold)]
    drawn_RE = part.resample(results, np.arange(2))
    # The first text twice, each once, the second twice.
    assert set(np.round(drawn_RE[:, 1], 6)) == {100.0, round(1000 / 11, 6), 0.0}


def test_what_int8_changed() -> None:
    rows = [example("a b c"), example("d e", 1), example("f", 2)]
    gold = [[1, 2, 0], [3, 0], [0]]
    reference = evaluation(gold, gold)
    int8 = evaluation([[1, 0, 0], [3, 4], [0]], gold)
    first, second = TASK.changes(reference, int8, rows)
    assert {first.example, second.example} == {"a b c", "d e"}
    by_text = {change.example: change for change in (first, second)}
    assert (by_text["a b c"].float_text, by_text["a b c"].int8_text) == ("A: a b", "A: a")
    assert by_text["d e"].int8_text == "B: d e" and by_text["d e"].int8_score == 0.5
    assert TASK.compare(reference, int8, rows) == {"equal_labels": pytest.approx(4 / 6)}
    confidence = TASK.confidence(reference)
    assert confidence is not None and confidence.score_temperature == 2.0
    assert find_chunks(["B-A", "I-A"]) == [("A", 0, 2)]


def test_windows_to_calibrate_on() -> None:
    tokenizer = make_tokenizer()
    rows = [example("the cat " * 30, row) for row in range(6)] + [example("who is", 6)]
    drawn = TASK.draw(rows, tokenizer, num_samples=5, seed=1)
    assert len(drawn) == 5
    assert all(sequence.num_tokens <= 24 for sequence in drawn)
    again = TASK.draw(rows, tokenizer, num_samples=5, seed=1)
    assert [s.input_ids.tolist() for s in again] == [s.input_ids.tolist() for s in drawn]
    with pytest.raises(CalibrationError, match="has no text"):
        TASK.draw([], tokenizer, num_samples=5, seed=1)
    with pytest.raises(EmptyInputError, match=r"words\[1\]: got '\\u200b'"):
        TASK.draw([example("the \u200b cat")], tokenizer, num_samples=1, seed=0)


def test_the_same_words_on_both_sides_are_refused() -> None:
    with pytest.raises(
        CalibrationError, match=r"shares 1 texts with eval_file.*stands in f, line 4"
    ):
        TASK.check_disjoint([example("a b", 4)], [example("a b", 9)], field="calibration_file")
