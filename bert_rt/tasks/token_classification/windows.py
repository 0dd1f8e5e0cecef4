"""A text's tokens -> overlapping windows that fit the model: `[CLS] slice of the text [SEP]`."""

from __future__ import annotations

import numpy as np

from bert_rt.tasks.limits import WindowLimits
from bert_rt.text.windows import cut_windows, max_context
from bert_rt.types import Encoding, Feature

__all__ = ["make_windows"]


def make_windows(
    encoding: Encoding, limits: WindowLimits, *, cls_id: int, sep_id: int
) -> list[Feature]:
    """Cut a text into windows.

    Args:
        encoding: The text's tokens, at least one.
        limits: max_seq_length, and doc_stride for what neighbouring windows share.
        cls_id: Id of the token that opens a window.
        sep_id: Id of the token that ends it.

    Returns:
        Windows in the order of the text, every token is_max_context in exactly one. What is called
        the context there is the text.

    Raises:
        InputTooLongError: The text would make more than MAX_WINDOWS windows.
    """
    room = limits.max_seq_length - 2
    starts, lengths = cut_windows(len(encoding.input_ids), room, room - limits.doc_stride, "text")
    windows = []
    for start, length, best in zip(starts, lengths, max_context(starts, lengths), strict=True):
        ids = encoding.input_ids[start : start + length]
        input_ids = np.concatenate(([cls_id], ids, [sep_id]), dtype=np.int32)
        types = np.zeros(len(input_ids), np.int32)
        windows.append(Feature(input_ids, types, 0, 1, start, length, best))
    return windows
