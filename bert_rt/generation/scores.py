"""Scores of the next token, changed by the rules of a search, as in Transformers 4.57."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_rt.generation.config import GenerationConfig
from bert_rt.types import FloatArray

__all__ = ["NEVER", "apply_rules", "best", "forbidden_tokens", "log_softmax"]

NEVER = np.float32(-np.inf)


def log_softmax(logits: FloatArray) -> FloatArray:
    """Return log probabilities over the last axis, float32."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    sums = np.exp(shifted).sum(axis=-1, keepdims=True)
    out: FloatArray = (shifted - np.log(sums)).astype(np.float32)
    return out


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
            seen = np.unique(np.asarray(tokens))
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
        For every row the tokens that may not come next; None where other scores change, too.
    """
    length = len(rows[0])
    is_begun = config.forced_bos_token_id is None or length > 1
    is_open = config.forced_eos_token_id is None or length != config.longest - 1
    if config.repetition_penalty != 1.0 or not is_begun or not is_open:
        return None
    size = config.no_repeat_ngram_size
    forbidden = [set(_repeating(row, size)) if size else set() for row in rows]
    if length < config.least_length:
        for tokens in forbidden:
            tokens.update(config.eos_token_ids)
    return forbidden


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
