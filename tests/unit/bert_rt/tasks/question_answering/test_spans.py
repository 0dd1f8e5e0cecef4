"""Unit tests of question answering's spans; tests/property compares it with brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bert_rt.errors import EngineInternalError
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering import spans
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.spans import decode
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Answer, Encoding, Feature, FloatArray
from tests.support.data.text import make_context, make_encoding, make_windows

CONFIG = AnsweringConfig(max_query_length=2, max_answer_length=3)
# Windows of 15 context tokens that move by 5.
NARROW = AnsweringConfig(max_seq_length=20, max_query_length=2, doc_stride=10, max_answer_length=3)


def logits(
    features: Sequence[Feature], values: dict[int, float], null: float = 0.0, rest: float = -9.0
) -> list[FloatArray]:
    """Make the logits of every window: values by context token, null on [CLS], else rest."""
    arrays = []
    for feature in features:
        array = np.full(feature.num_tokens, rest, np.float32)
        array[0] = null
        for token, value in values.items():
            if 0 <= token - feature.context_start < feature.context_length:
                array[feature.context_offset + token - feature.context_start] = value
        arrays.append(array)
    return arrays


def answer(
    num_tokens: int,
    start: dict[int, float],
    end: dict[int, float],
    *,
    config: AnsweringConfig = CONFIG,
    top_k: int = 1,
    null: float = 0.0,
    rest: float = -9.0,
    **options: Any,
) -> Answer:
    """Decode made-up logits over make_context(num_tokens), where token t is character 2 t."""
    features = make_windows(num_tokens, config)
    return decode(
        make_context(num_tokens),
        make_encoding(num_tokens),
        features,
        logits(features, start, null, rest),
        logits(features, end, null, rest),
        config=config,
        top_k=top_k,
        **options,
    )


def test_best_span_is_an_exact_slice() -> None:
    best = answer(6, {2: 5.0}, {3: 4.0})
    assert (best.text, best.start, best.end) == ("c d", 4, 7)
    assert best.logit == 9.0
    assert best.alternatives == ()


def test_score_is_the_softmax_over_all_admissible_spans() -> None:
    # Two tokens: spans (0,0), (0,1), (1,1).
    best = answer(2, {0: 1.0, 1: 2.0}, {0: 0.5, 1: 0.25})
    weights = [math.exp(1.5), math.exp(1.25), math.exp(2.25)]
    assert best.text == "b"
    assert best.score == pytest.approx(weights[2] / sum(weights), rel=1e-12)


def test_an_answer_has_at_most_max_answer_length_tokens() -> None:
    assert answer(9, {2: 5.0}, {4: 5.0, 5: 9.0}).text == "c d e"


def test_an_answer_does_not_end_before_it_starts() -> None:
    assert answer(9, {5: 5.0}, {4: 9.0, 6: 1.0}).text == "f g"


def test_answers_do_not_come_from_the_question_or_the_special_tokens() -> None:
    features = make_windows(4, CONFIG)
    start, end = logits(features, {1: 0.0}), logits(features, {1: 0.0})
    for position in (0, 1, 2, 3, -1):
        start[0][position] = end[0][position] = 50.0
    best = decode(make_context(4), make_encoding(4), features, start, end, config=CONFIG)
    assert best.text == "b"


def test_spans_start_only_where_the_window_is_the_best_view() -> None:
    features = make_windows(20, NARROW)
    assert [feature.context_start for feature in features] == [0, 5]
    # Token 14 is the last one of the first window; the second one shows more around it.
    assert not features[0].is_max_context[14]
    start, end = logits(features, {3: 0.0}), logits(features, {3: 0.0})
    start[0][features[0].context_offset + 14] = 50.0
    best = decode(make_context(20), make_encoding(20), features, start, end, config=NARROW)
    assert best.text == "d"
    start[1][features[1].context_offset + 9] = 60.0
    best = decode(make_context(20), make_encoding(20), features, start, end, config=NARROW)
    assert best.text.startswith("o")


def test_no_span_crosses_from_one_window_to_the_next() -> None:
    config = AnsweringConfig(max_seq_length=20, max_query_length=2, doc_stride=0)
    best = answer(30, {14: 9.0}, {14: 0.0, 15: 9.0}, config=config)
    assert (best.text, best.logit) == ("o", 9.0)


def test_ties_go_to_the_earlier_start_and_then_the_shorter_span() -> None:
    best = answer(4, {}, {}, rest=0.0, top_k=4)
    assert [found.text for found in (best, *best.alternatives)] == ["a", "a b", "a b c", "b"]
    assert answer(4, {}, {}, rest=0.0).text == "a"


def test_ties_between_windows_go_to_the_earlier_token() -> None:
    assert answer(20, {2: 5.0, 18: 5.0}, {2: 5.0, 18: 5.0}, config=NARROW).start == 4


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ties_by_rounding_go_to_the_shorter_span_and_the_earlier_start(sign: float) -> None:
    # To 1 +- 1e-20 float64 says 1: "a" scores what "a b" does, "b" what "a b" does.
    assert answer(3, {0: sign}, {0: -1e-20, 1: 1e-20}).text == "a"
    assert answer(3, {0: -1e-20, 1: 1e-20}, {1: sign}).text == "a b"


def test_top_k_gives_distinct_answers_best_first() -> None:
    best = answer(5, {1: 5.0, 3: 4.0}, {1: 3.0, 2: 2.0, 3: 1.0}, top_k=3)
    found = [best, *best.alternatives]
    assert [one.text for one in found] == ["b", "b c", "b c d"]
    assert [one.logit for one in found] == [8.0, 7.0, 6.0]
    assert best.score > found[1].score > found[2].score
    assert all(one.alternatives == () for one in best.alternatives)


@pytest.mark.parametrize("top_k", [2, 6, 50])
def test_top_k_may_exceed_n_best_size_and_the_spans_there_are(top_k: int) -> None:
    config = AnsweringConfig(max_query_length=2, n_best_size=1)
    best = answer(3, {}, {}, config=config, top_k=top_k)
    assert len(best.alternatives) == min(top_k, 6) - 1
    total = math.fsum(one.score for one in (best, *best.alternatives))
    assert total == pytest.approx(min(top_k, 6) / 6)


def test_spans_of_the_same_characters_count_once() -> None:
    # The first character was taken apart into two tokens.
    offsets = np.array([[0, 1], [0, 1], [2, 3]], np.int32)
    encoding = Encoding(np.arange(3, dtype=np.int32), offsets)
    features = make_windows(3, CONFIG)
    values = logits(features, {0: 5.0, 1: 6.0, 2: 1.0})
    best = decode("\u00bd x", encoding, features, values, values, config=CONFIG, top_k=2)
    # 6 + 6 and 5 + 6 are the same characters; then 6 + 1.
    assert (best.text, best.logit) == ("\u00bd", 12.0)
    assert [(one.text, one.logit) for one in best.alternatives] == [("\u00bd x", 7.0)]


def test_a_probability_is_never_above_1() -> None:
    # One span outweighs the others by e**50, but has neither the largest start nor the largest
    # end, so that its weight is put together from rounded factors.
    for seed in range(100):
        start, end = np.random.default_rng(seed).normal(0, 8, 2).tolist()
        score = answer(2, {0: start, 1: 40.0}, {0: end, 1: -120.0}).score
        assert 1 - 1e-12 <= score <= 1.0


def test_null_score_is_the_least_of_all_windows() -> None:
    features = make_windows(20, NARROW)
    start, end = logits(features, {3: 5.0}), logits(features, {3: 5.0})
    start[0][0], end[0][0], start[1][0], end[1][0] = 3.0, 2.0, -1.0, 4.0
    best = decode(make_context(20), make_encoding(20), features, start, end, config=NARROW)
    assert best.null_score == 3.0
    assert best.text == "d"


@pytest.mark.parametrize(
    ("threshold", "null", "is_null"),
    [(0.0, 2.5, False), (0.0, 2.75, True), (1.0, 3.0, False), (1.0, 3.25, True), (-2.0, 2.0, True)],
)
def test_no_answer_wins_above_the_threshold(threshold: float, null: float, is_null: bool) -> None:
    config = AnsweringConfig(
        max_query_length=2,
        max_answer_length=3,
        version_2_with_negative=True,
        null_score_diff_threshold=threshold,
    )
    # The best span scores 5; [CLS] scores null twice.
    best = answer(3, {1: 3.0}, {1: 2.0}, config=config, null=null, top_k=2)
    assert best.null_score == 2 * null
    if is_null:
        assert (best.text, best.start, best.end, best.logit) == ("", 0, 0, 2 * null)
        assert [one.text for one in best.alternatives] == ["b"]
    else:
        assert [one.text for one in (best, *best.alternatives)] == ["b", "b c"]


def test_no_answer_is_part_of_the_softmax_only_with_version_2() -> None:
    version_2 = AnsweringConfig(max_query_length=2, version_2_with_negative=True)
    weights = [math.exp(2.0), math.exp(1.0)]
    with_null = answer(1, {0: 1.0}, {0: 1.0}, config=version_2, null=0.5)
    assert with_null.score == pytest.approx(weights[0] / sum(weights), rel=1e-12)
    assert answer(1, {0: 1.0}, {0: 1.0}, null=0.5).score == 1.0
    null = answer(1, {0: 1.0}, {0: 1.0}, config=version_2, null=3.0)
    assert null.score == pytest.approx(1 / (1 + math.exp(-4.0)), rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
def test_far_apart_logits_keep_a_probability(scale: float) -> None:
    # The largest start comes after the largest end: no span has both.
    best = answer(12, {8: 9 * scale, 2: scale}, {1: 9 * scale, 3: scale}, rest=-9 * scale, top_k=2)
    assert best.text == "c d"
    expected = 1.0 if scale > 1 else 0.4
    assert expected <= best.score <= 1.0
    assert best.score + best.alternatives[0].score <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("to_start", "to_end"), [(-400, -400), (400, 400), (800, -800), (-800, 800), (2**14, -(2**14))]
)
def test_what_all_logits_have_in_common_changes_no_score(to_start: float, to_end: float) -> None:
    start, end = {0: 1.0, 1: 2.0, 2: 0.5}, {0: 0.5, 1: 0.25, 2: 0.75}
    plain = answer(3, start, end, top_k=6)
    features = make_windows(3, CONFIG)
    moved = decode(
        make_context(3),
        make_encoding(3),
        features,
        [logits(features, start)[0] + np.float32(to_start)],
        [logits(features, end)[0] + np.float32(to_end)],
        config=CONFIG,
        top_k=6,
    )
    for one, other in zip((moved, *moved.alternatives), (plain, *plain.alternatives), strict=True):
        assert (one.text, one.logit) == (other.text, other.logit + to_start + to_end)
        assert one.score == pytest.approx(other.score, rel=1e-12)


def test_a_null_score_far_above_all_spans_takes_all_the_probability() -> None:
    version_2 = AnsweringConfig(max_query_length=2, version_2_with_negative=True)
    best = answer(2, {0: 1.0}, {0: 1.0}, config=version_2, null=1e30, top_k=2)
    assert (best.text, best.score, best.alternatives[0].score) == ("", 1.0, 0.0)


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 1.7, 100.0])
def test_a_temperature_changes_scores_and_nothing_else(temperature: float) -> None:
    start, end = {0: 1.0, 1: 2.0}, {0: 0.5, 1: 0.25}
    plain = answer(2, start, end, top_k=3)
    got = answer(2, start, end, top_k=3, score_temperature=temperature)
    logits_of = [1.5, 1.25, 2.25]
    weights = [math.exp((value - 2.25) / temperature) for value in logits_of]
    for one, other in zip((got, *got.alternatives), (plain, *plain.alternatives), strict=True):
        assert (one.text, one.logit, one.null_score) == (other.text, other.logit, other.null_score)
        wanted = math.exp((one.logit - 2.25) / temperature) / sum(weights)
        assert one.score == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 3.0])
def test_a_temperature_does_not_decide_whether_there_is_an_answer(temperature: float) -> None:
    for threshold, text in ((-0.5, ""), (0.5, "b")):
        config = AnsweringConfig(
            max_query_length=2,
            max_answer_length=1,
            version_2_with_negative=True,
            null_score_diff_threshold=threshold,
        )
        best = answer(2, {1: 3.0}, {1: 2.0}, config=config, null=2.5, score_temperature=temperature)
        assert (best.text, best.logit) == (text, 5.0)
        # Spans "a" and "b", and "no answer" with as much as "b".
        rest = math.exp(-23 / temperature)
        assert best.score == pytest.approx(1 / (2 + rest), rel=1e-12)


def overlap(one: Answer, other: Answer) -> float:
    """Return the shared part of the shorter one's characters."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(0, shared) / min(one.end - one.start, other.end - other.start)


def test_answers_that_do_not_overlap() -> None:
    values = {2: 9.0, 3: 8.0, 9: 5.0, 15: 1.0}
    every = answer(20, values, values, top_k=3)
    assert [one.text for one in (every, *every.alternatives)] == ["c", "c d", "d"]
    best = answer(20, values, values, top_k=4, max_overlap=0.0)
    assert [one.text for one in (best, *best.alternatives)] == ["c", "d", "j", "p"]
    # Of their scores nothing changes: they are shares of the same whole.
    assert (best.score, best.logit) == (every.score, every.logit)
    assert best.alternatives[0].score == every.alternatives[1].score


def test_what_two_answers_may_share() -> None:
    # "c d e" has 5 characters, "d" is wholly in it, "e f g" shares "e" with it.
    start, end = {2: 9.0, 3: 8.0, 4: 7.0}, {4: 9.0, 3: 5.0, 6: 8.0}
    ranked = answer(8, start, end, top_k=4)
    texts = ["c d e", "d e", "e", "e f g"]
    assert [one.text for one in (ranked, *ranked.alternatives)] == texts
    for most, wanted in ((1.0, texts), (0.99, ["c d e", "e f g"]), (0.2, ["c d e", "e f g"])):
        best = answer(8, start, end, top_k=4, max_overlap=most)
        found = [best, *best.alternatives]
        assert [one.text for one in found][: len(wanted)] == wanted
    best = answer(8, start, end, top_k=4, max_overlap=0.19)
    assert "e f g" not in [one.text for one in best.alternatives]


def test_answers_apart_may_be_fewer_than_were_asked_for() -> None:
    best = answer(3, {}, {}, rest=0.0, top_k=50, max_overlap=0.0)
    assert [one.text for one in (best, *best.alternatives)] == ["a", "b", "c"]


def test_no_answer_overlaps_nothing() -> None:
    config = AnsweringConfig(max_query_length=2, version_2_with_negative=True)
    best = answer(3, {0: 1.0}, {0: 1.0}, config=config, null=5.0, top_k=3, max_overlap=0.0)
    assert [one.text for one in (best, *best.alternatives)] == ["", "a", "b"]


def test_the_search_for_answers_apart_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # All of the 40 best spans are within three tokens; only a wider look finds the next answer.
    values = {5: 50.0, 6: 50.0, 7: 50.0}
    config = AnsweringConfig(max_query_length=2, max_answer_length=3, n_best_size=2)
    wanted = ["f", "g", "h", "a"]
    best = answer(30, values, values, config=config, top_k=4, max_overlap=0.0)
    assert [one.text for one in (best, *best.alternatives)] == wanted
    monkeypatch.setattr(spans, "_MAX_SCORED_SPANS", 3 * 4)
    best = answer(30, values, values, config=config, top_k=4, max_overlap=0.0)
    assert [one.text for one in (best, *best.alternatives)] == wanted[:2]


def test_an_answer_ends_behind_the_accents_of_its_last_letter(tokenizer: Tokenizer) -> None:
    context = "a cafe\u0301\u0323 z"
    encoding = tokenizer.encode(context)
    features = make_features(
        0, tokenizer.encode("who"), encoding, config=CONFIG, cls_id=2, sep_id=3
    )
    start, end = logits(features, {1: 5.0}), logits(features, {4: 5.0})
    config = AnsweringConfig()
    best = decode(context, encoding, features, start, end, config=config)
    assert best.text == context[best.start : best.end] == "cafe\u0301\u0323"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["start_logits", "end_logits"])
def test_logits_that_are_no_numbers_are_an_engine_error(field: str, bad: float) -> None:
    features = make_windows(20, NARROW)
    arguments: dict[str, Any] = {
        "start_logits": logits(features, {}),
        "end_logits": logits(features, {}),
    }
    arguments[field][1][2] = bad
    with pytest.raises(EngineInternalError, match=rf"{field}\[1\]\[2\]: got {bad}, want a finite"):
        decode(make_context(20), make_encoding(20), features, **arguments, config=NARROW)


def test_logits_of_the_wrong_length_are_an_engine_error() -> None:
    features = make_windows(20, NARROW)
    values = logits(features, {})
    short = [values[0], values[1][:-1]]
    with pytest.raises(EngineInternalError, match=r"end_logits\[1\]: got shape \(19,\), want \(20"):
        decode(make_context(20), make_encoding(20), features, values, short, config=NARROW)
    with pytest.raises(EngineInternalError, match="start_logits: got 1 windows, want 2"):
        decode(make_context(20), make_encoding(20), features, values[:1], values, config=NARROW)
