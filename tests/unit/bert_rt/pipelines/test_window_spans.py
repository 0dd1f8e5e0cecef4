"""The decoding of windows against the definition: every span of every window, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bert_rt.errors import EngineInternalError
from bert_rt.pipelines.window_spans import SpanRules, find_answers
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.text.word_spans import WordSpans
from bert_rt.types import FloatArray, Outputs
from tests.support.data.text import make_context, make_encoding, make_windows

CONFIG = AnsweringConfig(max_seq_length=16, doc_stride=4, max_query_length=2)
NUM_TOKENS = 26  # one letter each: "a" and "A" would be one answer


def spans(start_logits: FloatArray, end_logits: FloatArray) -> Outputs:
    return {"start_logits": start_logits, "end_logits": end_logits}


def make_logits(seed: int, lengths: list[int]) -> list[Outputs]:
    generator = np.random.default_rng(seed)
    return [spans(*(generator.normal(0, 3, (2, length)).astype(np.float32))) for length in lengths]


def make_words(num_tokens: int, is_word_start: Any = None) -> WordSpans:
    """Give every token a word of its own, unless words are given."""
    offsets = make_encoding(num_tokens).offsets
    if is_word_start is None:
        is_word_start = np.ones(num_tokens, np.bool_)
    return WordSpans(offsets, offsets, is_word_start)


def find(rules: SpanRules, *, is_word_start: Any = None, seed: int = 0) -> list[dict[str, Any]]:
    features = make_windows(NUM_TOKENS, CONFIG)
    logits = make_logits(seed, [feature.num_tokens for feature in features])
    words = make_words(NUM_TOKENS, is_word_start)
    return find_answers(make_context(NUM_TOKENS), words, features, logits, rules)


def by_definition(rules: SpanRules, seed: int) -> dict[tuple[int, int], float]:
    """Score every span of tokens; those of several windows are summed."""
    features = make_windows(NUM_TOKENS, CONFIG)
    scores: dict[tuple[int, int], float] = {}
    for feature, logits in zip(
        features, make_logits(seed, [feature.num_tokens for feature in features]), strict=True
    ):
        first = feature.context_offset
        rows = [0, *range(first, first + feature.context_length)]
        parts = []
        for array in (logits["start_logits"], logits["end_logits"]):
            weights = np.exp(array[rows].astype(np.float64))
            parts.append((weights / weights.sum())[1:])
        for s in range(feature.context_length):
            for e in range(s, min(s + rules.max_answer_len, feature.context_length)):
                span = (feature.context_start + s, feature.context_start + e)
                scores[span] = scores.get(span, 0.0) + parts[0][s] * parts[1][e]
    return scores


@pytest.mark.parametrize("max_answer_len", [1, 4, 50])
def test_all_spans_with_the_scores_of_their_definition(max_answer_len: int) -> None:
    rules = SpanRules(top_k=5000, max_answer_len=max_answer_len, align_to_words=False)
    want = by_definition(rules, seed=3)
    got = {(a["start"] // 2, a["end"] // 2): a["score"] for a in find(rules, seed=3)}
    assert len(want) > 20
    assert got.keys() == want.keys()
    for span, score in want.items():
        assert got[span] == pytest.approx(score, rel=1e-4)


def test_the_best_come_first_and_are_slices() -> None:
    answers = find(SpanRules(top_k=4))
    scores = [answer["score"] for answer in answers]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    context = make_context(NUM_TOKENS)
    assert all(context[a["start"] : a["end"]] == a["answer"] for a in answers)


def test_fewer_candidates_do_not_change_the_best() -> None:
    for seed in range(20):
        (one,) = find(SpanRules(align_to_words=False, max_answer_len=1, top_k=1), seed=seed)
        best = find(SpanRules(align_to_words=False, max_answer_len=1, top_k=9), seed=seed)[0]
        # With top_k = 1 each window gives one candidate, so what windows share may not be summed.
        assert one["score"] <= best["score"] + 1e-6


def test_answers_are_widened_to_words() -> None:
    # Three tokens a word.
    is_word_start = np.arange(NUM_TOKENS) % 3 == 0
    answers = find(SpanRules(top_k=3), is_word_start=is_word_start)
    edges = {feature.context_start for feature in make_windows(NUM_TOKENS, CONFIG)}
    ends = {f.context_start + f.context_length for f in make_windows(NUM_TOKENS, CONFIG)}
    for answer in answers:
        first, end = answer["start"] // 2, answer["end"] // 2 + 1
        assert first % 3 == 0 or first in edges
        assert end % 3 == 0 or end in ends
    plain = find(SpanRules(top_k=3, align_to_words=False), is_word_start=is_word_start)
    assert plain != answers


def test_equal_texts_are_one_answer_whatever_their_case() -> None:
    context = "x X x"
    features = make_windows(3, CONFIG)
    zeros = np.zeros(features[0].num_tokens, np.float32)
    logits = [spans(zeros, zeros)]
    rules = SpanRules(top_k=9, max_answer_len=1, align_to_words=False)
    answers = find_answers(context, make_words(3), features, logits, rules)
    # Start and end are one of [CLS] and three tokens each: 1/4 x 1/4 a span.
    assert answers == [{"score": pytest.approx(3 / 16), "start": 0, "end": 1, "answer": "x"}]


def test_no_answer_has_the_least_score_over_the_windows() -> None:
    features = make_windows(NUM_TOKENS, CONFIG)
    logits = []
    for index, feature in enumerate(features):
        array = np.zeros(feature.num_tokens, np.float32)
        array[0] = 1.0 + index
        logits.append(spans(array, array))
    rules = SpanRules(top_k=5000, handle_impossible_answer=True)
    context, words = make_context(NUM_TOKENS), make_words(NUM_TOKENS)
    answers = find_answers(context, words, features, logits, rules)
    (null,) = [answer for answer in answers if not answer["answer"]]
    chance = np.e / (np.e + features[0].context_length)
    assert null == {"score": pytest.approx(chance**2), "start": 0, "end": 0, "answer": ""}


def test_nan_is_an_error() -> None:
    features = make_windows(3, CONFIG)
    array = np.full(features[0].num_tokens, np.nan, np.float32)
    with pytest.raises(EngineInternalError, match="NaN"):
        find_answers(
            "a b c",
            make_words(3),
            features,
            [spans(array, array)],
            SpanRules(),
        )
