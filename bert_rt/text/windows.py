"""A long text in overlapping windows of tokens, and which window shows a token best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputTooLongError

__all__ = ["MAX_WINDOWS", "cut_windows", "max_context"]

# A text of the greatest length at one token a character makes 53,000 windows of the default size;
# more than this come only from a doc_stride that barely lets the windows move.
MAX_WINDOWS = 100_000


def cut_windows(num_tokens: int, room: int, step: int, field: str) -> tuple[list[int], list[int]]:
    """Cut a text into windows.

    Args:
        num_tokens: Tokens of the text, at least one.
        room: Most tokens of the text in a window.
        step: By how many tokens a window moves on, at least one.
        field: What the text is, for the message.

    Returns:
        The first token of every window, and how many tokens it has.

    Raises:
        InputTooLongError: There would be more than MAX_WINDOWS windows.
    """
    num_windows = 1 + max(0, -(-(num_tokens - room) // step))
    if num_windows > MAX_WINDOWS:
        raise InputTooLongError(
            f"{field}: got {num_tokens} tokens, which are {num_windows} windows that move by "
            f"{step} tokens, want at most {MAX_WINDOWS} windows"
        )
    starts = [index * step for index in range(num_windows)]
    return starts, [min(room, num_tokens - start) for start in starts]


def max_context(starts: list[int], lengths: list[int]) -> list[NDArray[np.bool_]]:
    """Mark, window by window, the tokens that no other window shows with more context around.

    Args:
        starts: First token of every window, ascending.
        lengths: Tokens of every window.

    Returns:
        One array of shape (lengths[w],), bool, for every window w.

    Source: `_check_is_max_context` of run_squad.py: the least of the tokens to the left and to
        the right, plus 0.01 x length in the same float64 arithmetic; the first window wins ties.
    """
    if len(starts) == 1:
        is_max_context = np.empty(lengths[0], np.bool_)
        is_max_context.fill(True)
        return [is_max_context]
    num_tokens = starts[-1] + lengths[-1]
    best_score = np.full(num_tokens, -1.0)
    best_window = np.zeros(num_tokens, np.int32)
    for window, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        left = np.arange(length)
        score = np.minimum(left, left[::-1]) + 0.01 * length
        view = slice(start, start + length)
        is_better = score > best_score[view]
        best_score[view][is_better] = score[is_better]
        best_window[view][is_better] = window
    return [
        best_window[start : start + length] == window
        for window, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]
