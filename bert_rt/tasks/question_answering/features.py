"""Checked question and context -> overlapping windows that fit the model.

    [CLS] question [SEP] slice of the context [SEP]
    <s> question </s></s> slice of the context </s>         RoBERTa's, with two separators

A context longer than a window is read in windows that share doc_stride tokens, so that an answer
at the edge of one lies well inside its neighbour. Of the windows that show a token, one is that
token's best view (is_max_context); only that one may start an answer there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bert_rt.errors import ConfigError, EmptyInputError
from bert_rt.model.config import BertConfig
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text
from bert_rt.text.windows import cut_windows, max_context
from bert_rt.types import Encoding, Feature, IntArray

__all__ = [
    "MAX_QUESTION_CHARS",
    "check_question",
    "check_split_windows",
    "make_features",
    "passage_parts",
]

MAX_QUESTION_CHARS = 100_000


def check_question(question: Any, context: Any) -> None:
    """Check a question and its context, as the user gave them.

    Args:
        question: Text of at most MAX_QUESTION_CHARS characters.
        context: Text of at most MAX_TEXT_CHARS characters.

    Raises:
        EmptyInputError: A text is empty or only white space.
        InputTooLongError: A text is too long.
        InputError: A value is no str, or it holds a NUL character or a lone surrogate.
    """
    check_text("question", question, max_chars=MAX_QUESTION_CHARS)
    check_text("context", context, max_chars=MAX_TEXT_CHARS)


def make_features(
    question_index: int,
    question: Encoding,
    context: Encoding,
    *,
    config: AnsweringConfig,
    cls_id: int,
    sep_id: int,
    num_separators: int = 1,
    second_type_id: int = 1,
    is_split: bool = False,
) -> list[Feature]:
    """Cut one question's context into windows.

    Args:
        question_index: Which question of the request this is; every window carries it.
        question: The question's tokens; those beyond max_query_length are cut off.
        context: The context's tokens.
        config: max_seq_length, doc_stride and max_query_length are used.
        cls_id: Id of the token that opens a window.
        sep_id: Id of the token that ends the question and the context.
        num_separators: How many of it stand between the two (Tokenizer.num_separators).
        second_type_id: Token type of the context (Tokenizer.second_type_id).
        is_split: Whether the model has split layers: windows are cut as for the longest question.

    Returns:
        Windows of at most max_seq_length tokens in context order. Neighbours share doc_stride
        context tokens (the last two may share more by being cut at the context's end); every
        context token is in at least one window and is_max_context in exactly one.

    Raises:
        EmptyInputError: The question or the context has no token (only control characters, say).
        InputTooLongError: The context would make more than MAX_WINDOWS windows.
        ConfigError: The special tokens leave no room for windows to move.

    Source: windows as in Devlin et al.'s run_squad.py, with doc_stride as the overlap, which is
        how the Hugging Face scripts read it.
    """
    for field, encoding in (("question", question), ("context", context)):
        if not len(encoding.input_ids):
            raise EmptyInputError(f"{field}: got text without a single token, want readable text")
    query_ids = question.input_ids[: config.max_query_length]
    context_offset = len(query_ids) + 1 + num_separators
    longest = config.max_query_length if is_split else len(query_ids)
    room = _room(config, longest + num_separators + 2)
    starts, lengths = cut_windows(len(context.input_ids), room, room - config.doc_stride, "context")
    features = []
    views = max_context(starts, lengths)
    for start, length, is_max_context in zip(starts, lengths, views, strict=True):
        input_ids = np.empty(context_offset + length + 1, np.int32)
        input_ids.fill(sep_id)
        input_ids[0] = cls_id
        input_ids[1 : 1 + len(query_ids)] = query_ids
        input_ids[context_offset:-1] = context.input_ids[start : start + length]
        token_type_ids = np.zeros(len(input_ids), np.int32)
        token_type_ids[context_offset:] = second_type_id
        place = (question_index, context_offset, start, length)
        features.append(Feature(input_ids, token_type_ids, *place, is_max_context))
    return features


def passage_parts(context: Encoding, *, config: AnsweringConfig, sep_id: int) -> list[IntArray]:
    """Return what stands behind the question in the windows of a model with split layers.

    Args:
        context: The context's tokens.
        config: As in make_features.
        sep_id: Id of the token that ends the context.

    Returns:
        Of every window the tokens of type 1, shape (T,), int32: the same for all questions.

    Raises:
        EmptyInputError: The context has no token.
        InputTooLongError: It would make more than MAX_WINDOWS windows.
    """
    question = Encoding(np.zeros(1, np.int32), np.zeros((1, 2), np.int32))
    ids = {"cls_id": 0, "sep_id": sep_id}
    features = make_features(0, question, context, config=config, is_split=True, **ids)
    return [feature.input_ids[feature.context_offset :] for feature in features]


def check_split_windows(config: AnsweringConfig, architecture: BertConfig) -> None:
    """Check that windows fit a model with split layers, whose two texts have their own positions.

    Args:
        config: How windows are cut.
        architecture: The model's; without split layers all windows fit that are short enough.

    Raises:
        ConfigError: A question may reach the passage's positions, or a passage the end of all.
    """
    offset = architecture.passage_position_offset
    if not offset:
        return
    if config.max_query_length > offset - 2:
        raise ConfigError(
            f"max_query_length: got {config.max_query_length}, want at most {offset - 2}: the "
            f"model has split layers, and passages begin at its position {offset}"
        )
    end = offset + config.max_seq_length - config.max_query_length - 2
    if end > architecture.max_sequence_length:
        raise ConfigError(
            f"max_seq_length: got {config.max_seq_length}, want at most "
            f"{config.max_seq_length - end + architecture.max_sequence_length} with "
            f"max_query_length {config.max_query_length}: the model has split layers, and passages "
            f"begin at its position {offset} of {architecture.max_sequence_length}"
        )


def _room(config: AnsweringConfig, num_taken: int) -> int:
    """Return the context tokens of a window, in which num_taken tokens are something else."""
    room = config.max_seq_length - num_taken
    if room <= config.doc_stride:
        raise ConfigError(
            f"doc_stride: got {config.doc_stride}, want less than {room} (max_seq_length "
            f"{config.max_seq_length} - {num_taken} tokens of the question and special ones), else "
            "windows cannot move"
        )
    return room
