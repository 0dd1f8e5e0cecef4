"""Properties of the path from text to tokens to windows to batches, and from logits to answers."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from bert_rt.engines.packing import pack, pad, plan_batches, unpack, unpad
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.spans import decode
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Feature, FloatArray
from tests.support.data.text import (
    SPECIAL_TOKENS,
    VOCAB,
    make_context,
    make_encoding,
    make_tokenizer,
    make_windows,
    texts,
)

UNCASED = make_tokenizer()
CASED = make_tokenizer(do_lower_case=False)


@st.composite
def answering_configs(draw: st.DrawFn) -> AnsweringConfig:
    """Draw small windows, so that short texts make many of them."""
    max_seq_length = draw(st.integers(9, 40))
    max_query_length = draw(st.integers(1, min(8, max_seq_length - 4)))
    return AnsweringConfig(
        max_seq_length=max_seq_length,
        max_query_length=max_query_length,
        doc_stride=draw(st.integers(0, max_seq_length - max_query_length - 4)),
        max_answer_length=draw(st.integers(1, 50)),
        n_best_size=draw(st.integers(1, 8)),
        version_2_with_negative=draw(st.booleans()),
    )


def normalized(piece: str, *, is_uncased: bool) -> str:
    """Drop control and format characters; drop accents and case, too, as uncased BERT does."""
    if is_uncased:
        letters = unicodedata.normalize("NFD", piece)
        piece = "".join(one for one in letters if unicodedata.category(one) != "Mn").lower()
    return "".join(one for one in piece if one.isprintable())


@given(texts, st.sampled_from([UNCASED, CASED]))
def test_token_spans_slice_the_callers_own_string(text: str, tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode(text)
    assert len(encoding.input_ids) == len(encoding.offsets)
    previous_start = previous_end = 0
    for token_id, (start, end) in zip(
        encoding.input_ids.tolist(), encoding.offsets.tolist(), strict=True
    ):
        assert 0 <= previous_start <= start < end <= len(text)
        assert previous_end <= end
        previous_start, previous_end = start, end
        token = VOCAB[token_id].removeprefix("##")
        assert VOCAB[token_id] == "[UNK]" or VOCAB[token_id] not in SPECIAL_TOKENS
        if token != "[UNK]":
            assert token in normalized(text[start:end], is_uncased=tokenizer is UNCASED)


@given(st.lists(texts, max_size=6))
def test_a_batch_gives_what_single_texts_give(batch: list[str]) -> None:
    for text, encoding in zip(batch, UNCASED.encode_batch(batch), strict=True):
        single = UNCASED.encode(text)
        np.testing.assert_array_equal(encoding.input_ids, single.input_ids)
        np.testing.assert_array_equal(encoding.offsets, single.offsets)


@given(answering_configs(), st.integers(1, 12), st.integers(1, 200))
def test_every_context_token_is_seen_and_has_one_best_window(
    config: AnsweringConfig, num_query: int, num_tokens: int
) -> None:
    num_best = np.zeros(num_tokens, int)
    for feature in make_windows(num_tokens, config, num_query=num_query):
        assert feature.num_tokens <= config.max_seq_length
        shown = feature.input_ids[feature.context_offset : -1] - 1000
        first, last = feature.context_start, feature.context_start + feature.context_length
        assert shown.tolist() == list(range(first, last))
        assert feature.token_type_ids.sum() == feature.context_length + 1
        num_best[shown] += feature.is_max_context
    assert num_best.tolist() == [1] * num_tokens


@given(answering_configs(), st.lists(st.integers(1, 80), min_size=1, max_size=5), st.booleans())
def test_batches_are_taken_apart_into_what_they_were_made_of(
    config: AnsweringConfig, num_tokens: list[int], is_packed: bool
) -> None:
    features = [one for count in num_tokens for one in make_windows(count, config)]
    lengths = [one.num_tokens for one in features]
    plan = plan_batches(lengths, max_tokens=100, is_packed=is_packed)
    assert sorted(index for batch in plan for index in batch) == list(range(len(features)))
    for indices in plan:
        chosen = [features[index] for index in indices]
        batch = pack(chosen, max_tokens=100)
        parts = unpack(batch.input_ids, batch.cu_seqlens)
        assert [part.tolist() for part in parts] == [one.input_ids.tolist() for one in chosen]
        input_ids, attention_mask, token_type_ids = pad(batch, 0)
        assert input_ids.shape == (batch.num_sequences, batch.max_seqlen)
        assert is_packed or input_ids.size <= 100
        assert attention_mask.sum() == batch.num_tokens
        np.testing.assert_array_equal(unpad(input_ids, batch.cu_seqlens), batch.input_ids)
        np.testing.assert_array_equal(unpad(token_type_ids, batch.cu_seqlens), batch.token_type_ids)


def all_spans(
    features: Sequence[Feature],
    start_logits: Sequence[FloatArray],
    end_logits: Sequence[FloatArray],
    max_answer_length: int,
) -> list[tuple[float, int, int]]:
    """List (score, first token, last token) of every admissible span, best first: the reference."""
    found = []
    for feature, start, end in zip(features, start_logits, end_logits, strict=True):
        for s in range(feature.context_length):
            if not feature.is_max_context[s]:
                continue
            for e in range(s, min(s + max_answer_length, feature.context_length)):
                score = float(start[feature.context_offset + s]) + float(
                    end[feature.context_offset + e]
                )
                found.append((score, feature.context_start + s, feature.context_start + e))
    return sorted(found, key=lambda span: (-span[0], span[1], span[2]))


@given(
    answering_configs(),
    st.integers(1, 60),
    st.integers(1, 9),
    # A few distinct values make ties; the largest make exp overflow and underflow.
    st.sampled_from([0.0, 1.0, 30.0, 3000.0, 1e30]),
    st.integers(1, 10),
    st.integers(0, 2**32 - 1),
)
def test_decode_is_the_brute_force_reference(
    config: AnsweringConfig, num_tokens: int, num_values: int, scale: float, top_k: int, seed: int
) -> None:
    features = make_windows(num_tokens, config)
    rng = np.random.default_rng(seed)
    values = (scale * rng.standard_normal(num_values)).astype(np.float32)
    start_logits = [rng.choice(values, one.num_tokens) for one in features]
    end_logits = [rng.choice(values, one.num_tokens) for one in features]
    best = decode(
        context := make_context(num_tokens),
        make_encoding(num_tokens),
        features,
        start_logits,
        end_logits,
        config=config,
        top_k=top_k,
    )
    spans = all_spans(features, start_logits, end_logits, config.max_answer_length)
    null = min(
        float(start[0]) + float(end[0]) for start, end in zip(start_logits, end_logits, strict=True)
    )
    assert best.null_score == null
    expected = [(score, 2 * first, 2 * last + 1) for score, first, last in spans]
    candidates = [score for score, _, _ in expected]
    if config.version_2_with_negative:
        candidates.append(null)
        if null > expected[0][0]:
            expected.insert(0, (null, 0, 0))
    found = [best, *best.alternatives]
    assert [(one.logit, one.start, one.end) for one in found] == expected[:top_k]
    assert all(context[one.start : one.end] == one.text for one in found)
    total = math.fsum(math.exp(score - max(candidates)) for score in candidates)
    for one in found:
        probability = math.exp(one.logit - max(candidates)) / total
        assert math.isclose(one.score, probability, rel_tol=1e-11, abs_tol=1e-300)
    assert math.fsum(one.score for one in found) <= 1 + 1e-11


@given(
    answering_configs(),
    st.integers(1, 50),
    st.integers(1, 9),
    st.sampled_from([0.01, 0.3, 1.0, 2.5, 100.0]),
    st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_temperature_and_overlap_change_what_they_should_and_no_more(
    config: AnsweringConfig,
    num_tokens: int,
    top_k: int,
    temperature: float,
    max_overlap: float | None,
    seed: int,
) -> None:
    features = make_windows(num_tokens, config)
    rng = np.random.default_rng(seed)
    start_logits, end_logits = (
        [rng.normal(0, 3, one.num_tokens).astype(np.float32) for one in features] for _ in range(2)
    )
    context = make_context(num_tokens)
    spans = all_spans(features, start_logits, end_logits, config.max_answer_length)
    best = decode(
        context,
        make_encoding(num_tokens),
        features,
        start_logits,
        end_logits,
        config=config,
        top_k=top_k,
        max_overlap=max_overlap,
        score_temperature=temperature,
    )
    candidates = [score for score, _, _ in spans]
    expected: list[tuple[float, int, int]] = []
    for score, first, last in spans:
        start, end = 2 * first, 2 * last + 1
        if max_overlap is None or all(
            min(end, other_end) - max(start, other)
            <= max_overlap * min(end - start, other_end - other)
            for _, other, other_end in expected
        ):
            expected.append((score, start, end))
    if config.version_2_with_negative:
        candidates.append(best.null_score)
        if best.null_score > spans[0][0]:
            expected.insert(0, (best.null_score, 0, 0))
    found = [best, *best.alternatives]
    assert [(one.logit, one.start, one.end) for one in found] == expected[:top_k]
    weights = [math.exp((score - max(candidates)) / temperature) for score in candidates]
    for one in found:
        weight = math.exp((one.logit - max(candidates)) / temperature)
        assert math.isclose(one.score, weight / math.fsum(weights), rel_tol=1e-9, abs_tol=1e-300)


@given(texts, texts, answering_configs(), st.integers(0, 2**32 - 1))
def test_answers_are_exact_slices_of_hard_texts(
    question: str, context: str, config: AnsweringConfig, seed: int
) -> None:
    question_encoding, encoding = UNCASED.encode(question), UNCASED.encode(context)
    assume(len(question_encoding.input_ids) and len(encoding.input_ids))
    features = make_features(
        0,
        question_encoding,
        encoding,
        config=config,
        cls_id=UNCASED.cls_id,
        sep_id=UNCASED.sep_id,
    )
    rng = np.random.default_rng(seed)
    start_logits, end_logits = (
        [rng.normal(0, 5, one.num_tokens).astype(np.float32) for one in features] for _ in range(2)
    )
    best = decode(context, encoding, features, start_logits, end_logits, config=config, top_k=5)
    for one in (best, *best.alternatives):
        assert one.text == context[one.start : one.end]
        assert 0.0 <= one.score <= 1.0
        if one.text:
            assert not one.text[0].isspace() and not one.text[-1].isspace()
            following = context[one.end : one.end + 1]
            assert not following or unicodedata.category(following) not in ("Mn", "Me")
        else:
            assert config.version_2_with_negative and (one.start, one.end) == (0, 0)
