"""Start and end logits of a question's windows -> the best spans -> Answer.

A span (s, e) of context tokens is admissible where s <= e < s + max_answer_length, both lie in one
window, and no other window shows s with more context around it. Its raw score is the start logit
of s plus the end logit of e; its probability is the softmax over ALL admissible spans of all
windows, not only over the n best, of the raw scores divided by the artifact's score_temperature.

All windows are laid one behind the other on one line, whole, with -inf for all that is no context
and between them, so that one pass of array operations serves any number of windows:

    starts  -inf ... s0 s1 s2 ... -inf ...    s0 s1 ...   -inf ...     (-inf if not is_max_context)
    ends    -inf ... e0 e1 e2 ... -inf ...    e0 e1 ...   -inf ...

A question mostly has one window of some hundred tokens, where an array operation costs its call,
not its work, and far more where it is the first of its kind after the engine has filled the
caches. So there are few of few kinds, and what is one number is a Python number.

`_Line` and the functions over it see only arrays; a native version can take their place.

Shapes: N positions of the line, A = max_answer_length.

Source: span scores and the null answer as in Devlin et al.'s run_squad.py (`write_predictions`);
the temperature as in Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import math
import sys
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import EngineInternalError
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.types import Answer, Encoding, Feature, FloatArray

__all__ = ["decode"]

_Floats: TypeAlias = NDArray[np.float64]
_Ints: TypeAlias = NDArray[np.intp]
# A span on the line: its raw score, its first and its last position.
_Place: TypeAlias = tuple[float, int, int]

# Where no logit is above this and the best score is not below its negative, float64 (e**-708 to
# e**709) has room for exp(start), exp(end) and their products, and keeps the full precision of all
# that are more than e**-100 times the largest one.
_MAX_EXPONENT = 300.0
# Two float32 numbers differ by at least 2**-24 of the larger one. Where that one has this share of
# a float64 sum, they differ by 2**-48 of the sum, which rounding to 2**-53 cannot hide.
_LEAST_SHARE = 2.0**-24
# Spans scored in search of answers that do not overlap, of which every max_answer_length-th is
# looked at: some 64 MB. An answer of 30 tokens overlaps 1770 spans: a top_k of up to 78 is safe.
_MAX_SCORED_SPANS = 2**22


class _Line(NamedTuple):
    """The windows of one question, one behind the other.

    Attributes:
        logits: Shape (2, N + width - 1), float64: starts and ends.
        starts: Shape (N,), a view; -inf where no answer may start.
        ends: Shape (N + width - 1,), a view; -inf where no answer may end, in at least width - 1
            places behind every window's context.
        width: Longest answer in tokens, at most the longest window's context.
        positions: Where every window begins.
        shifts: By window, what makes the index of a context token of a position.
        null_score: Raw score of "no answer".
    """

    logits: _Floats
    starts: _Floats
    ends: _Floats
    width: int
    positions: list[int]
    shifts: list[int]
    null_score: float


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
    line = _lay_out(features, start_logits, end_logits, config.max_answer_length)
    null_score = line.null_score
    found = _find(context, context_encoding, line, config.n_best_size, top_k, max_overlap)
    best_logit = found[0].logit
    candidate = null_score if config.version_2_with_negative else -math.inf
    if candidate - best_logit > config.null_score_diff_threshold:
        found.insert(0, _Span(0, 0, null_score))
    logits = [span.logit for span in found[:top_k]]
    scores = _probabilities(line, logits, best_logit, candidate, 1 / score_temperature)
    best, *others = [
        (context[start:end], start, end, score, logit, null_score)
        for (start, end, logit), score in zip(found, scores, strict=False)
    ]
    return Answer(*best, tuple([Answer(*other) for other in others]))


def _check(
    features: Sequence[Feature],
    start_logits: Sequence[FloatArray],
    end_logits: Sequence[FloatArray],
) -> None:
    """Raise EngineInternalError for the first thing that is wrong with the logits, if any is."""
    for field, logits in (("start_logits", start_logits), ("end_logits", end_logits)):
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
    """Check the logits of all windows and lay them on one line."""
    if not len(start_logits) == len(end_logits) == len(features):
        _check(features, start_logits, end_logits)
    width = min(max_answer_length, max([feature.context_length for feature in features]))
    gap = width - 1
    length = sum([feature.num_tokens + gap for feature in features])
    flat = np.zeros(2 * length)
    logits = flat.reshape(2, length)
    starts, ends = logits[0], logits[1]
    positions, shifts = [], []
    null_score = math.inf
    position = 0
    for feature, start, end in zip(features, start_logits, end_logits, strict=True):
        if not start.shape == end.shape == (feature.num_tokens,):
            _check(features, start_logits, end_logits)
        stop = position + len(start)
        starts[position:stop] = start
        ends[position:stop] = end
        null_score = min(null_score, start.item(0) + end.item(0))
        positions.append(position)
        shifts.append(feature.context_start - feature.context_offset - position)
        position = stop + gap
    # A NaN or an infinite number shows in the sum of squares.
    if not math.isfinite(flat.dot(flat)):
        _check(features, start_logits, end_logits)
    stop = 0
    for feature, shift in zip(features, shifts, strict=True):
        begin = feature.context_start - shift
        logits[:, stop:begin] = -math.inf
        stop = begin + feature.context_length
        if len(features) > 1:  # A single window is the best view of all of its tokens.
            starts[begin:stop][~feature.is_max_context] = -math.inf
    logits[:, stop:] = -math.inf
    return _Line(logits, starts[: length - gap], ends, width, positions, shifts, null_score)


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
    if top_k == 1:
        return [_characters(context, encoding, line, _best_span(line))]
    count = max(top_k, n_best_size)
    most = count if max_overlap is None else max(count, _MAX_SCORED_SPANS // line.width)
    spans = (
        _characters(context, encoding, line, place) for place in _best_places(line, count, most)
    )
    return list(islice(_without_overlap(_distinct(spans), max_overlap), top_k))


def _distinct(spans: Iterable[_Span]) -> Iterator[_Span]:
    """Leave out every span of the same characters as one before it."""
    seen = set()
    for span in spans:
        characters = span[:2]
        if characters not in seen:
            seen.add(characters)
            yield span


def _without_overlap(spans: Iterable[_Span], max_overlap: float | None) -> Iterator[_Span]:
    """Leave out every span that shares too many characters with one before it."""
    kept: list[_Span] = []
    for span in spans:
        start, end, _ = span
        if max_overlap is None or all(
            min(end, other_end) - max(start, other)
            <= max_overlap * min(end - start, other_end - other)
            for other, other_end, _ in kept
        ):
            kept.append(span)
            yield span


def _sliding_max(values: _Floats, width: int) -> _Floats:
    """Return the maximum of every width neighbours, shape (N - width + 1,), by doubling."""
    window = 1
    while 2 * window <= width:
        values = np.maximum(values[:-window], values[window:])
        window *= 2
    rest = width - window
    return np.maximum(values[:-rest], values[rest:]) if rest else values


def _best(scores: _Floats, count: int) -> _Ints:
    """Return where the count largest finite scores are, best first, ties by position."""
    least = -sys.float_info.max
    if count < len(scores):
        rank = len(scores) - count
        least = max(least, np.partition(scores, rank).item(rank))
    (indices,) = (scores >= least).nonzero()
    return indices[(-scores[indices]).argsort(kind="stable")[:count]]


def _best_span(line: _Line) -> _Place:
    """Return the best admissible span.

    That is the one from the first largest start to the first largest end, where these are a span,
    unless its score and that of an earlier one are equal by rounding alone.
    """
    row, last = int(line.starts.argmax()), int(line.ends.argmax())
    start, end = line.starts.item(row), line.ends.item(last)
    score = start + end
    if row <= last < row + line.width and min(abs(start), abs(end)) > _LEAST_SHARE * abs(score):
        return score, row, last
    row_best = line.starts + _sliding_max(line.ends, line.width)
    row = int(row_best.argmax())
    scores = line.ends[row : row + line.width] + line.starts.item(row)
    return row_best.item(row), row, row + int(scores.argmax())


def _best_places(line: _Line, count: int, most: int) -> Iterator[_Place]:
    """Yield the best admissible spans, best first: count, and up to most where more are taken.

    The best spans start in the rows (one row = all spans with the same start) whose own best is
    largest, so only count rows of the N x A scores are ever computed.
    """
    row_best = line.starts + _sliding_max(line.ends, line.width)
    done = 0
    while True:
        rows = np.sort(_best(row_best, count))
        columns = rows[:, None] + np.arange(line.width)
        scores = (line.starts[rows, None] + line.ends[columns]).ravel()
        # Row by row and short before long: the order in which ties are to be resolved.
        best = _best(scores, count)
        new = best[done:]
        firsts = rows[new // line.width]
        lasts = firsts + new % line.width
        yield from zip(scores[new].tolist(), firsts.tolist(), lasts.tolist(), strict=True)
        if len(best) < count or count == most:
            return
        done, count = count, min(4 * count, most)


def _probabilities(
    line: _Line, logits: Sequence[float], best: float, null_score: float, scale: float
) -> list[float]:
    """Return the softmax of some raw scores over all admissible spans and "no answer".

    Args:
        line: The windows.
        logits: The raw scores, each of one of these.
        best: Raw score of the best span.
        null_score: Raw score of "no answer"; -inf where that is no candidate.
        scale: What raw scores are multiplied by, above 0.

    Returns:
        A number in [0, 1] for every raw score.
    """
    reference = max(null_score, best)
    total = _total_weight(line, best, scale) * math.exp((best - reference) * scale)
    total += math.exp((null_score - reference) * scale)
    return [min(1.0, math.exp((logit - reference) * scale) / total) for logit in logits]


def _total_weight(line: _Line, best: float, scale: float) -> float:
    """Return the sum of exp((score - best) * scale) over all admissible spans.

    Args:
        line: The windows.
        best: Raw score of the best span.
        scale: What raw scores are multiplied by, above 0.

    Returns:
        The sum, exact to float64 rounding.
    """
    num_positions = len(line.starts)
    exponents = line.logits if scale == 1.0 else line.logits * scale
    most = exponents.item(exponents.argmax())
    if most <= _MAX_EXPONENT and best * scale >= -_MAX_EXPONENT:
        # exp(s + e) = exp(s) exp(e): N exponentials of each kind instead of N x A. The sums of
        # their products, by length of the spans, are the correlation of starts and ends.
        weights = np.exp(exponents)
        sums = np.correlate(weights[1], weights[0, :num_positions])
        return math.fsum(sums.tolist()) * math.exp(-best * scale)
    return sum(
        float(np.exp((line.starts + line.ends[shift:][:num_positions] - best) * scale).sum())
        for shift in range(line.width)
    )


def _characters(context: str, encoding: Encoding, line: _Line, place: _Place) -> _Span:
    """Return the characters of a span."""
    logit, first, last = place
    shift = line.shifts[bisect(line.positions, first) - 1]
    start = encoding.offsets.item(first + shift, 0)
    end = _whole_character(context, encoding.offsets.item(last + shift, 1))
    return _Span(*_without_space(context, start, end), logit)


def _without_space(context: str, start: int, end: int) -> tuple[int, int]:
    """Move a span off the white space at its ends, which some tokenizers have tokens for.

    A span of nothing else stays: an empty one would say that there is no answer.
    """
    text = context[start:end]
    length = len(text.strip())
    if length in (0, len(text)):
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
