"""Start and end logits of a question's windows -> the best spans -> Answer.

A span (s, e) of context tokens is admissible where s <= e < s + max_answer_length, both lie in one
window, and no other window shows s with more context around it. Its raw score is the start logit
of s plus the end logit of e; its probability is the softmax over ALL admissible spans of all
windows, not only over the n best, of the raw scores divided by the artifact's score_temperature.

All windows are laid one behind the other on one line, with ends of -inf between them, so that one
pass of array operations serves any number of windows:

    starts  s0 s1 s2 ... -inf ...    s0 s1 ...   -inf ...     (-inf where not is_max_context)
    ends    e0 e1 e2 ... -inf ...    e0 e1 ...   -inf ...

`_Line` and the functions over it see only arrays; a native version can take their place.

Shapes: N positions of the line, A = max_answer_length.

Source: span scores and the null answer as in Devlin et al.'s run_squad.py (`write_predictions`);
the temperature as in Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bert_rt.config import AnsweringConfig
from bert_rt.errors import EngineInternalError
from bert_rt.types import Answer, Encoding, Feature, FloatArray

__all__ = ["decode"]

_Floats: TypeAlias = NDArray[np.float64]
_Ints: TypeAlias = NDArray[np.intp]

# exp(-x) for x up to here keeps full precision in float64 (it underflows from 708 on), with room
# for terms that are e**-100 times smaller than the largest one.
_MAX_EXPONENT_GAP = 600.0
# Spans scored in search of answers that do not overlap, of which every max_answer_length-th is
# looked at: some 64 MB. An answer of 30 tokens overlaps 1770 spans: a top_k of up to 78 is safe.
_MAX_SCORED_SPANS = 2**22


class _Line(NamedTuple):
    """The windows of one question, one behind the other.

    Attributes:
        starts: Shape (N,), float64; -inf where no answer may start.
        ends: Shape (N + width - 1,), float64; -inf behind every window and at the end.
        tokens: Shape (N,): the context token at a position; undefined where ends is -inf.
        width: Longest answer in tokens, at most the longest window's context.
    """

    starts: _Floats
    ends: _Floats
    tokens: _Ints
    width: int


class _Span(NamedTuple):
    """Characters of the context, and their raw score."""

    start: int
    end: int
    logit: float


def decode(
    context: str,
    context_encoding: Encoding,
    features: Sequence[Feature],
    start_logits: Sequence[FloatArray],
    end_logits: Sequence[FloatArray],
    *,
    config: AnsweringConfig,
    top_k: int = 1,
    max_overlap: float | None = None,
    score_temperature: float = 1.0,
) -> Answer:
    """Find the best answer to one question.

    Args:
        context: The caller's own string.
        context_encoding: The tokens of all of it.
        features: All windows of the question, as make_features gave them.
        start_logits: For every window, shape (num_tokens,), float32.
        end_logits: For every window, shape (num_tokens,), float32.
        config: max_answer_length, n_best_size, version_2_with_negative and
            null_score_diff_threshold are used.
        top_k: Answers wanted, at least 1; those after the best become its alternatives.
        max_overlap: Leave out a span that shares more than this part of the shorter one's
            characters, in [0, 1], with a better one that is not left out; None for all spans.
        score_temperature: What raw scores are divided by before the softmax, above 0. It changes
            no rank, and not which answer is null.

    Returns:
        The best span over all windows, ordered by higher score, then earlier start, then
        shorter; different tokens that give the same characters count once. With
        version_2_with_negative, "no answer" is one more candidate of the softmax, and the empty
        Answer is returned, with the best spans as alternatives, where its score minus the best
        span's is above the threshold.

    Raises:
        EngineInternalError: A logit is NaN or infinite, or an array's length is wrong.
    """
    assert top_k >= 1, "decode: top_k must be at least 1"
    _check_logits("start_logits", start_logits, features)
    _check_logits("end_logits", end_logits, features)
    null_score = min(
        float(start[0]) + float(end[0]) for start, end in zip(start_logits, end_logits, strict=True)
    )
    line = _lay_out(features, start_logits, end_logits, config.max_answer_length)
    found = _find(context, context_encoding, line, config.n_best_size, top_k, max_overlap)
    best_logit = found[0].logit
    candidate = null_score if config.version_2_with_negative else -math.inf
    if candidate - best_logit > config.null_score_diff_threshold:
        found.insert(0, _Span(0, 0, null_score))
    logits = [span.logit for span in found[:top_k]]
    scores = _probabilities(line, logits, best_logit, candidate, score_temperature)
    best, *others = (
        Answer(context[start:end], start, end, score, logit, null_score)
        for (start, end, logit), score in zip(found, scores, strict=False)
    )
    return replace(best, alternatives=tuple(others)) if others else best


def _check_logits(field: str, logits: Sequence[FloatArray], features: Sequence[Feature]) -> None:
    if len(logits) != len(features):
        raise EngineInternalError(f"{field}: got {len(logits)} windows, want {len(features)}")
    for index, (array, feature) in enumerate(zip(logits, features, strict=True)):
        if array.shape != (feature.num_tokens,):
            raise EngineInternalError(
                f"{field}[{index}]: got shape {array.shape}, want ({feature.num_tokens},)"
            )
        if not np.isfinite(array).all():
            position = int(np.flatnonzero(~np.isfinite(array))[0])
            raise EngineInternalError(
                f"{field}[{index}][{position}]: got {array[position]}, want a finite number"
            )


def _lay_out(
    features: Sequence[Feature],
    start_logits: Sequence[FloatArray],
    end_logits: Sequence[FloatArray],
    max_answer_length: int,
) -> _Line:
    """Lay the context tokens of all windows on one line."""
    width = min(max_answer_length, max(feature.context_length for feature in features))
    gap = width - 1
    num_positions = sum(feature.context_length + gap for feature in features) - gap
    starts = np.full(num_positions, -np.inf)
    ends = np.full(num_positions + gap, -np.inf)
    tokens = np.empty(num_positions, np.intp)
    position = 0
    for feature, start, end in zip(features, start_logits, end_logits, strict=True):
        length = feature.context_length
        here = slice(position, position + length)
        rows = slice(feature.context_offset, feature.context_offset + length)
        ends[here] = end[rows]
        np.copyto(starts[here], start[rows], where=feature.is_max_context)
        tokens[here] = np.arange(feature.context_start, feature.context_start + length)
        position += length + gap
    return _Line(starts, ends, tokens, width)


def _find(
    context: str,
    encoding: Encoding,
    line: _Line,
    n_best_size: int,
    top_k: int,
    max_overlap: float | None,
) -> list[_Span]:
    """Return the best spans, at least one, at most top_k, best first."""
    # Dropping duplicates can never drop the best one, so a single answer needs one candidate.
    count = 1 if top_k == 1 else max(top_k, n_best_size)
    most = count if max_overlap is None else max(count, _MAX_SCORED_SPANS // line.width)
    while True:
        scores, firsts, lasts = _best_spans(line, count)
        spans = _apart(_distinct(context, encoding, firsts, lasts), max_overlap)
        found = [
            _Span(start, end, float(scores[rank])) for rank, start, end in islice(spans, top_k)
        ]
        if len(found) == top_k or len(scores) < count or count == most:
            return found
        count = min(4 * count, most)


def _apart(
    spans: Iterable[tuple[int, int, int]], max_overlap: float | None
) -> Iterator[tuple[int, int, int]]:
    """Leave out every span that shares too many characters with one before it."""
    kept: list[tuple[int, int]] = []
    for rank, start, end in spans:
        if max_overlap is None or all(
            min(end, other_end) - max(start, other)
            <= max_overlap * min(end - start, other_end - other)
            for other, other_end in kept
        ):
            kept.append((start, end))
            yield rank, start, end


def _sliding_max(values: _Floats, width: int) -> _Floats:
    """Return the maximum of every width neighbours, shape (N - width + 1,), by doubling."""
    window = 1
    while 2 * window <= width:
        values = np.maximum(values[:-window], values[window:])
        window *= 2
    rest = width - window
    return np.maximum(values[:-rest], values[rest:]) if rest else values


def _sliding_sum(values: _Floats, width: int) -> _Floats:
    """Return the sum of every width neighbours, shape (N - width + 1,), by doubling.

    Differences of a running sum would take fewer steps, but lose small sums beside large ones.
    """
    num_windows = len(values) - width + 1
    total = np.zeros(num_windows)
    offset = 0
    window = 1
    while True:
        if width & window:
            total += values[offset : offset + num_windows]
            offset += window
        if 2 * window > width:
            return total
        values = values[:-window] + values[window:]
        window *= 2


def _best(scores: _Floats, count: int) -> _Ints:
    """Return where the count largest finite scores are, best first, ties by position."""
    if count == 1:
        return np.array([scores.argmax()])
    least = -np.inf
    if count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
    indices = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return indices[np.argsort(-scores[indices], kind="stable")[:count]]


def _best_spans(line: _Line, count: int) -> tuple[_Floats, _Ints, _Ints]:
    """Return the count best admissible spans: scores, first tokens and last tokens, best first.

    The best spans start in the rows (one row = all spans with the same start) whose own best is
    largest, so only count rows of the N x A scores are ever computed.
    """
    row_best = line.starts + _sliding_max(line.ends, line.width)
    rows = np.sort(_best(row_best, count))
    columns = rows[:, None] + np.arange(line.width)
    scores = (line.starts[rows, None] + line.ends[columns]).ravel()
    # Row by row and short before long: the order in which ties are to be resolved.
    best = _best(scores, count)
    firsts = rows[best // line.width]
    return scores[best], line.tokens[firsts], line.tokens[firsts + best % line.width]


def _probabilities(
    line: _Line, logits: Sequence[float], best: float, null_score: float, temperature: float
) -> list[float]:
    """Return the softmax of some raw scores over all admissible spans and "no answer".

    Args:
        line: The windows.
        logits: The raw scores, each of one of these.
        best: Raw score of the best span.
        null_score: Raw score of "no answer"; -inf where that is no candidate.
        temperature: What raw scores are divided by.

    Returns:
        A number in [0, 1] for every raw score.
    """
    scale = 1 / temperature
    if temperature != 1.0:
        line = line._replace(starts=line.starts * scale, ends=line.ends * scale)
    reference = max(null_score, best) * scale
    total = _total_weight(line, best * scale, reference) + math.exp(null_score * scale - reference)
    return [min(1.0, math.exp(logit * scale - reference) / total) for logit in logits]


def _total_weight(line: _Line, best: float, reference: float) -> float:
    """Return the sum of exp(score - reference) over all admissible spans.

    Args:
        line: The windows.
        best: Score of the best span.
        reference: A number of at least best.

    Returns:
        The sum, exact to float64 rounding.
    """
    max_start = float(line.starts.max())
    max_end = float(line.ends.max())
    if max_start + max_end - best <= _MAX_EXPONENT_GAP:
        # exp(s + e) = exp(s) exp(e): N exponentials of each kind instead of N x A.
        sums = _sliding_sum(np.exp(line.ends - max_end), line.width)
        weight = float(np.dot(np.exp(line.starts - max_start), sums))
        return weight * math.exp(max_start + max_end - reference)
    # The largest start and the largest end are no span together and dwarf every span there is.
    num_positions = len(line.starts)
    return sum(
        float(np.exp(line.starts + line.ends[shift : shift + num_positions] - reference).sum())
        for shift in range(line.width)
    )


def _distinct(
    context: str, encoding: Encoding, firsts: _Ints, lasts: _Ints
) -> Iterator[tuple[int, int, int]]:
    """Yield rank, first character and end of every span whose characters did not come before."""
    seen = set()
    starts = encoding.offsets[firsts, 0].tolist()
    ends = encoding.offsets[lasts, 1].tolist()
    for rank, (start, token_end) in enumerate(zip(starts, ends, strict=True)):
        start, end = _without_space(context, start, _whole_character(context, token_end))
        if (start, end) not in seen:
            seen.add((start, end))
            yield rank, start, end


def _without_space(context: str, start: int, end: int) -> tuple[int, int]:
    """Move a span off the white space at its ends, which some tokenizers have tokens for.

    A span of nothing else stays: an empty one would say that there is no answer.
    """
    text = context[start:end]
    if not text or text.isspace():
        return start, end
    return end - len(text.lstrip()), start + len(text.rstrip())


def _whole_character(context: str, end: int) -> int:
    """Move an end behind the combining marks that belong to the character before it.

    The normalizer strips accents, so the span of the token for "e" + U+0301 ends between the two.
    """
    while end < len(context) and context[end] > "\u02ff":
        if unicodedata.category(context[end]) not in ("Mn", "Me"):
            break
        end += 1
    return end
