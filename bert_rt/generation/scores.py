"""Scores of the next token, changed by the rules of a search, as in Transformers 4.57."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bert_rt.errors import EngineInternalError
from bert_rt.generation.config import GenerationConfig
from bert_rt.types import FloatArray, IntArray

__all__ = ["NEVER", "apply_rules", "best", "best_of_rows", "forbidden_tokens", "log_softmax"]

NEVER = np.float32(-np.inf)
# Scores that are looked at together: so many stay in a core's cache from one pass to the next.
_CACHED_SCORES = 2**17
# The columns of a row are dealt out to so many groups, of which only the greatest score is sorted.
_NUM_GROUPS = 128


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return log probabilities over the last axis, float32.

    Args:
        logits: Shape (R, V), float32.

    Returns:
        The same shape.

    Raises:
        EngineInternalError: A row has a score that is no number, or none above minus infinity.
    """
    shifted, log_sums = _shifted(logits)
    out: FloatArray = shifted - log_sums
    return out


def _shifted(logits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return scores below the row's greatest, and what is left to subtract, shape (R, 1)."""
    with np.errstate(invalid="ignore"):  # Said below, by an error.
        shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    _check_numbers(log_sums)
    return shifted, log_sums


def best(scores: FloatArray, count: int) -> np.ndarray:
    """Find the greatest scores; of equal ones those that stand first.

    Args:
        scores: Shape (N,).
        count: How many; at most N.

    Returns:
        Their indices, greatest first, shape (count,), int64.
    """
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    # All that are above the last one's score, and as many of its equals as there is room for.
    above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    chosen = np.concatenate([above, equal[: count - len(above)]])
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def best_of_rows(
    logits: FloatArray, count: int, log_probs: FloatArray | None = None
) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Find the tokens with the greatest log probabilities in each row.

    The same to the bit as `best` finds in each row of the log probabilities (with a count of 1 as
    argmax finds in the logits), and much faster.

    Args:
        logits: Shape (R, V), float32.
        count: How many of each row; at most V.
        log_probs: Their log probabilities, where something else has computed them; None for those
            of log_softmax.

    Returns:
        Log probabilities, shape (R, count), float32, and tokens, int32; greatest first, and of
        equal ones the lower token.

    Raises:
        EngineInternalError: A row has a score that is no number, or none above minus infinity.
    """
    num_rows, vocab_size = logits.shape
    chosen = np.empty((num_rows, count), np.float32)
    tokens = np.empty((num_rows, count), np.int32)
    step = max(1, _CACHED_SCORES // vocab_size)
    for first in range(0, num_rows, step):
        rows = slice(first, first + step)
        if count == 1:
            tokens[rows, 0] = logits[rows].argmax(axis=-1)
        if log_probs is None:
            shifted, log_sums = _shifted(logits[rows])
        else:
            shifted = log_probs[rows]
            log_sums = np.zeros((len(shifted), 1), np.float32)
        if count > 1:
            tokens[rows] = _best_of_block(shifted, log_sums, count)
        chosen[rows] = np.take_along_axis(shifted, tokens[rows], 1) - log_sums
    _check_numbers(chosen)
    return chosen, tokens


def _best_of_block(shifted: FloatArray, log_sums: FloatArray, count: int) -> IntArray:
    """Return the tokens of the greatest differences, from which log_sums are still to be taken."""
    # Every group's greatest score is one of the row's, so the count-th of them is a lower bound.
    bounds = _count_th(_group_maxima(shifted), count)[:, None]
    _check_numbers(bounds)
    if log_sums.any():
        # Scores that differ can become log probabilities that do not: by less than this.
        bounds -= 4 * np.finfo(np.float32).eps * (np.abs(bounds) + np.abs(log_sums))
    rows, tokens = np.divmod(np.flatnonzero(shifted >= bounds), shifted.shape[1])
    log_probs = shifted[rows, tokens] - log_sums[rows, 0]
    # Tokens stand in their order, and lexsort is stable.
    order = np.lexsort((-log_probs, rows))
    chosen = order[np.searchsorted(rows, np.arange(len(shifted)))[:, None] + np.arange(count)]
    found: IntArray = tokens[chosen]
    return found


def _check_numbers(scores: FloatArray) -> None:
    if np.isnan(scores).any():
        raise EngineInternalError(
            "decoder: got scores of the next token that are no numbers, want finite ones"
        )


def _group_maxima(scores: FloatArray) -> FloatArray:
    """Return the greatest score of every group of columns, and what columns are left."""
    num_rows, size = scores.shape
    depth = size // _NUM_GROUPS
    if depth < 2:
        return scores
    grouped = scores[:, : depth * _NUM_GROUPS].reshape(num_rows, depth, _NUM_GROUPS)
    return np.concatenate([grouped.max(axis=1), scores[:, depth * _NUM_GROUPS :]], axis=1)


def _count_th(scores: FloatArray, count: int) -> FloatArray:
    """Return the count-th greatest score of every row; the least where there are fewer."""
    place = max(0, scores.shape[1] - count)
    kth: FloatArray = np.partition(scores, place, axis=1)[:, place]
    return kth


def apply_rules(
    scores: FloatArray, rows: Sequence[Sequence[int]], config: GenerationConfig
) -> None:
    """Change the scores of rows that are equally long, in place.

    Args:
        scores: Logits (greedy search) or log probabilities (beam search), shape (R, V), float32.
        rows: The tokens of every row so far, the start token included.
        config: The rules.
    """
    length = len(rows[0])
    if config.repetition_penalty != 1.0:
        for row, tokens in zip(scores, rows, strict=True):
            seen = list(set(tokens))
            values, penalty = row[seen], np.float32(config.repetition_penalty)
            row[seen] = np.where(values < 0, values * penalty, values / penalty)
    if config.no_repeat_ngram_size:
        for row, tokens in zip(scores, rows, strict=True):
            row[_repeating(tokens, config.no_repeat_ngram_size)] = NEVER
    if length < config.least_length:
        scores[:, list(config.eos_token_ids)] = NEVER
    if config.forced_bos_token_id is not None and length == 1:
        _force(scores, config.forced_bos_token_id)
    if config.forced_eos_token_id is not None and length == config.longest - 1:
        _force(scores, config.forced_eos_token_id)


def forbidden_tokens(
    rows: Sequence[Sequence[int]], config: GenerationConfig
) -> list[set[int]] | None:
    """Say what apply_rules does where it only forbids tokens.

    Args:
        rows: The tokens of every row so far, the start token included; equally long.
        config: The rules.

    Returns:
        For every row the tokens that may not come next, no rows where there is none in any; None
        where other scores change, too.
    """
    length = len(rows[0])
    is_begun = config.forced_bos_token_id is None or length > 1
    is_open = config.forced_eos_token_id is None or length != config.longest - 1
    if config.repetition_penalty != 1.0 or not is_begun or not is_open:
        return None
    size = config.no_repeat_ngram_size
    is_short = length < config.least_length
    if not size and not is_short:
        return []
    forbidden = [set(_repeating(row, size)) if size else set() for row in rows]
    if is_short:
        for tokens in forbidden:
            tokens.update(config.eos_token_ids)
    return forbidden if any(forbidden) else []


def _force(scores: FloatArray, token: int) -> None:
    scores[:] = NEVER
    scores[:, token] = 0.0


def _repeating(tokens: Sequence[int], size: int) -> list[int]:
    """Return the tokens that would make the last `size` ones stand twice."""
    if len(tokens) + 1 < size:
        return []
    start = list(tokens[len(tokens) - size + 1 :])
    ends = range(size - 1, len(tokens))
    return [tokens[end] for end in ends if list(tokens[end - size + 1 : end]) == start]
