"""Start and end logits of a question's windows -> answers, by the rules of Transformers 4.x.

They are other rules than those of tasks.question_answering.spans, kept so that results do not
change for those who come from there:

- Every window is normalized by itself: starts and ends apart, over its context and [CLS]. So the
  scores of two windows do not add up to one, and a window without an answer votes like any other.
- A span may be found in every window that shows it. Candidates of equal text (whatever the case)
  are one answer, with the place of the first and the sum of the scores.
- Words are whole: a span is widened to the words that its ends lie in.
- Spans are those of the `tokenizers` library, white space included where its tokenizer leaves it.

Unlike there, a span of probability 0 is never an answer: where a passage has fewer spans than were
asked for, Transformers fills up with empty ones.

Shapes: T tokens of a window, C = 1 + its context tokens, A = max_answer_len.

Source: the behaviour of QuestionAnsweringPipeline of Transformers 4.57.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import EngineInternalError
from bert_rt.text.word_spans import WordSpans
from bert_rt.types import Feature, FloatArray, Outputs

__all__ = ["SpanRules", "find_answers"]

_Ints: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class SpanRules:
    """How answers are picked.

    Attributes:
        top_k: Answers wanted, at least 1.
        max_answer_len: Longest answer in tokens, at least 1.
        handle_impossible_answer: Whether "no answer" is an answer.
        align_to_words: Whether answers are widened to whole words.
    """

    top_k: int = 1
    max_answer_len: int = 15
    handle_impossible_answer: bool = False
    align_to_words: bool = True


def find_answers(
    context: str,
    words: WordSpans,
    features: Sequence[Feature],
    logits: Sequence[Outputs],
    rules: SpanRules,
) -> list[dict[str, Any]]:
    """Find the best answers to one question.

    Args:
        context: The caller's own string.
        words: The tokens of all of it, their words and spans.
        features: The windows of the question.
        logits: For every window, arrays of shape (T,).
        rules: How answers are picked.

    Returns:
        At most rules.top_k dictionaries of score, start, end and answer, best first;
        context[start:end] == answer. "No answer" has the text "" and start = end = 0.

    Raises:
        EngineInternalError: A logit is NaN or infinite.
    """
    # Some candidates become equal when they are widened.
    count = 2 * rules.top_k + 10 if rules.align_to_words else rules.top_k
    null_scores = []
    found: dict[str, dict[str, Any]] = {}
    for feature, window in zip(features, logits, strict=True):
        start_C = _probabilities(window["start_logits"], feature)
        end_C = _probabilities(window["end_logits"], feature)
        null_scores.append(float(start_C[0] * end_C[0]))
        scores, firsts, lasts = _best_spans(start_C[1:], end_C[1:], rules.max_answer_len, count)
        shown = slice(feature.context_start, feature.context_start + feature.context_length)
        if rules.align_to_words:
            firsts, lasts = _whole_words(firsts, lasts, words.is_word_start[shown])
        offsets = words.offsets[shown].copy()
        offsets[0] = words.opening_offsets[feature.context_start]
        starts, ends = offsets[firsts, 0].tolist(), offsets[lasts, 1].tolist()
        for score, start, end in zip(scores.tolist(), starts, ends, strict=True):
            text = context[start:end]
            same = found.setdefault(
                text.lower(), {"score": 0.0, "start": start, "end": end, "answer": text}
            )
            same["score"] += score
    answers = list(found.values())
    if rules.handle_impossible_answer:
        answers.append({"score": min(null_scores), "start": 0, "end": 0, "answer": ""})
    # The sort is stable: of equal scores the one found first stays first.
    answers.sort(key=lambda answer: -answer["score"])
    return answers[: rules.top_k]


def _probabilities(logits_T: FloatArray, feature: Feature) -> FloatArray:
    """Return the softmax over [CLS] and the window's context, shape (C,), float32."""
    begin = feature.context_offset
    logits_C = np.append(logits_T[:1], logits_T[begin : begin + feature.context_length])
    if not np.isfinite(logits_C).all():
        raise EngineInternalError("logits: got NaN or an infinite number, want finite numbers")
    # In float32 as in Transformers: what is 0 there is 0 here.
    weights_C = np.exp(logits_C - logits_C.max())
    probabilities_C: FloatArray = weights_C / weights_C.sum()
    return probabilities_C


def _best_spans(
    start: FloatArray, end: FloatArray, max_answer_len: int, count: int
) -> tuple[FloatArray, _Ints, _Ints]:
    """Return scores, first and last tokens of the best spans of one window, best first.

    Args:
        start: Shape (C - 1,), probabilities of the context tokens.
        end: Shape (C - 1,).
        max_answer_len: Longest span in tokens.
        count: Spans wanted at most.

    Returns:
        Three arrays of the same length; of equal scores the earlier and shorter span comes first.
    """
    width = min(max_answer_len, len(end))
    # Row s holds the ends s, s + 1, ... of a span from s; behind the window there is probability 0.
    padded = np.append(end, np.zeros(width - 1, end.dtype))
    ends_by_start = np.lib.stride_tricks.sliding_window_view(padded, width)
    scores = (start[:, None] * ends_by_start).ravel()
    best = np.arange(len(scores))
    if count < len(scores):
        best = np.sort(np.argpartition(-scores, count)[:count])
    best = best[np.argsort(-scores[best], kind="stable")]
    best = best[scores[best] > 0]
    firsts = best // width
    return scores[best], firsts, firsts + best % width


def _whole_words(
    firsts: _Ints, lasts: _Ints, is_word_start: NDArray[np.bool_]
) -> tuple[_Ints, _Ints]:
    """Widen spans to the words that their ends lie in, as far as the window shows them."""
    num_tokens = len(is_word_start)
    # A window may open in the middle of a word.
    starts = np.append(0, np.flatnonzero(is_word_start[1:]) + 1)
    bounds = np.append(starts, num_tokens)
    word_of_first = np.searchsorted(starts, firsts, side="right") - 1
    word_of_last = np.searchsorted(starts, lasts, side="right") - 1
    return bounds[word_of_first], bounds[word_of_last + 1] - 1
