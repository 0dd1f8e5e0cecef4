"""SQuAD's questions -> windows with the positions of their answers.

Shapes: K answers of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputError
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.squad import SquadExample, misalignment
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, Feature

__all__ = ["Window", "make_windows"]


@dataclass(frozen=True, slots=True)
class Window:
    """A window to train on.

    Attributes:
        feature: Its tokens.
        spans: Shape (K, 2), int32: first and last token of each place where the answer stands in
            the window; (0, 0), the [CLS] token, where it stands nowhere.
    """

    feature: Feature
    spans: NDArray[np.int32]


def make_windows(
    examples: Sequence[SquadExample],
    tokenizer: Tokenizer,
    config: AnsweringConfig,
    *,
    all_positions: bool = True,
    is_split: bool = False,
) -> list[Window]:
    """Cut every context into windows and find the answers in them.

    Args:
        examples: Questions with at least one answer each, or none and is_impossible.
        tokenizer: The model's.
        config: Windows.
        all_positions: Whether every place where an answer's text stands on token boundaries
            counts, not only the one that is marked.
        is_split: Whether the model has split layers, as in make_features.

    Returns:
        All windows, in order.

    Raises:
        InputError: An answer is not in its context at its place, or a text has no token.
    """
    contexts = tokenizer.encode_batch([example.context for example in examples])
    questions = tokenizer.encode_batch([example.question for example in examples])
    windows: list[Window] = []
    for index, (example, question, context) in enumerate(
        zip(examples, questions, contexts, strict=True)
    ):
        place = example.place or f"question {example.id!r}"
        spans = _answer_spans(example, context, all_positions=all_positions, place=place)
        try:
            features = make_features(
                index,
                question,
                context,
                config=config,
                is_split=is_split,
                **tokenizer.pair_tokens,
            )
        except InputError as error:
            raise type(error)(f"{place}: {error}") from None
        windows.extend(Window(feature, _spans_in(feature, spans)) for feature in features)
    return windows


def _answer_spans(
    example: SquadExample, context: Encoding, *, all_positions: bool, place: str
) -> NDArray[np.int32]:
    """Return first and last context token of every answer, shape (K, 2)."""
    first_chars, end_chars = context.offsets[:, 0], context.offsets[:, 1]
    # The bytes of one character may be several tokens: from the first of them to the last.
    starts = {int(first_chars[token]): token for token in reversed(range(len(first_chars)))}
    ends = {int(end): token for token, end in enumerate(end_chars)}
    found: dict[tuple[int, int], None] = {}
    for text, start in zip(example.answers, example.answer_starts, strict=True):
        wrong = misalignment(example.context, text, start)
        if wrong is not None:
            raise InputError(f"{place}: answer_start: {wrong}")
        # The tokens that the marked answer touches, though it may begin or end within one.
        first = int(np.searchsorted(end_chars, start, side="right"))
        last = int(np.searchsorted(first_chars, start + len(text), side="left")) - 1
        if first <= last:
            found[first, last] = None
        position = example.context.find(text) if all_positions else -1
        while position >= 0:
            span = starts.get(position), ends.get(position + len(text))
            if span[0] is not None and span[1] is not None:
                found[span[0], span[1]] = None
            position = example.context.find(text, position + 1)
    return np.array(list(found), np.int32).reshape(-1, 2)


def _spans_in(feature: Feature, spans: NDArray[np.int32]) -> NDArray[np.int32]:
    inside = spans[
        (spans[:, 0] >= feature.context_start)
        & (spans[:, 1] < feature.context_start + feature.context_length)
    ]
    if not len(inside):
        return np.zeros((1, 2), np.int32)
    moved: NDArray[np.int32] = inside + np.int32(feature.context_offset - feature.context_start)
    return moved
