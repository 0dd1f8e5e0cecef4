"""Checked question and context -> overlapping windows that fit the model.

    [CLS] question [SEP] slice of the context [SEP]
    <s> question </s></s> slice of the context </s>         RoBERTa's, with two separators

A context longer than a window is read in windows that share doc_stride tokens, so that an answer
at the edge of one lies well inside its neighbour. Of the windows that show a token, one is that
token's best view (is_max_context); only that one may start an answer there.

A text that is classified is one sequence, cut off where the model ends:

    [CLS] text [SEP]      or      [CLS] text [SEP] second text [SEP]
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import ConfigError, EmptyInputError, InputError, InputTooLongError
from bert_rt.model.config import AnsweringConfig
from bert_rt.text.tokenization import Tokenizer, check_encodable
from bert_rt.types import Encoding, Feature, TextInput, TokenSequence

__all__ = [
    "MAX_CONTEXT_CHARS",
    "MAX_QUESTION_CHARS",
    "MAX_WINDOWS",
    "check_question",
    "check_text",
    "make_features",
    "make_sequence",
    "make_sequences",
    "text_fault",
]

MAX_QUESTION_CHARS = 100_000
MAX_CONTEXT_CHARS = 10_000_000
# A context of the greatest length at one token a character makes 53,000 windows of the default
# size; more than this come only from a doc_stride that barely lets the windows move.
MAX_WINDOWS = 100_000

# With fewer texts than this the pool of threads costs more than it saves.
_FEW_TEXTS = 8


def check_text(field: str, text: Any, *, max_chars: int) -> None:
    """Check a text that a user gave.

    Args:
        field: What the text is, for the message.
        text: The caller's value.
        max_chars: Longest text allowed, in characters.

    Raises:
        EmptyInputError: The text is empty or only white space.
        InputTooLongError: The text has more than max_chars characters.
        InputError: The value is no str, or it holds a NUL character or a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(f"{field}: got {type(text).__name__}, want str")
    if len(text) > max_chars:
        raise InputTooLongError(
            f"{field}: got {len(text)} characters, want at most {max_chars} characters"
        )
    if not text or text.isspace():
        raise EmptyInputError(f"{field}: got {text[:20]!r}, want text that is not only white space")
    position = text.find("\0")
    if position >= 0:
        raise InputError(
            f"{field}: got a NUL character at character {position}, want text without NUL"
        )
    check_encodable(field, text)


def text_fault(field: str, text: Any, *, max_chars: int) -> str | None:
    """Say what is wrong with a text of a data file, for readers that tell all faults at once.

    Args:
        field: What the text is, for the message.
        text: What the file has.
        max_chars: Longest text allowed, in characters.

    Returns:
        The message of check_text; or that the text has only controls, white space and marks that
        belong to a letter, of which a tokenizer may leave nothing; None where all is well.
    """
    try:
        check_text(field, text, max_chars=max_chars)
    except InputError as error:
        return str(error)
    for char in text:
        category = unicodedata.category(char)
        if category[0] not in "CZ" and category != "Mn":
            return None
    return f"{field}: got text without a letter, digit or sign ({text[:20]!a}), want readable text"


def check_question(question: Any, context: Any) -> None:
    """Check a question and its context, as the user gave them.

    Args:
        question: Text of at most MAX_QUESTION_CHARS characters.
        context: Text of at most MAX_CONTEXT_CHARS characters.

    Raises:
        EmptyInputError: A text is empty or only white space.
        InputTooLongError: A text is too long.
        InputError: A value is no str, or it holds a NUL character or a lone surrogate.
    """
    check_text("question", question, max_chars=MAX_QUESTION_CHARS)
    check_text("context", context, max_chars=MAX_CONTEXT_CHARS)


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
    room = _room(config, context_offset + 1)
    starts, lengths = _windows(len(context.input_ids), room, room - config.doc_stride)
    features = []
    views = _max_context(starts, lengths)
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


def make_sequence(
    text: Encoding,
    text_pair: Encoding | None = None,
    *,
    max_seq_length: int,
    cls_id: int,
    sep_id: int,
    num_separators: int = 1,
    second_type_id: int = 1,
    num_token_types: int = 2,
) -> TokenSequence:
    """Make the model's input of a text, or of a pair of texts, that is classified.

    Args:
        text: The text's tokens.
        text_pair: The second text's tokens.
        max_seq_length: Most tokens of the sequence, special tokens included. Of a text that is
            longer the beginning is kept; of a pair the longer one is cut first.
        cls_id: Id of the token that opens a sequence.
        sep_id: Id of the token that ends a text.
        num_separators: How many of it stand between two texts (Tokenizer.num_separators).
        second_type_id: Token type of the second text (Tokenizer.second_type_id).
        num_token_types: How many the model has (BertConfig.num_token_types).

    Returns:
        The sequence; the second text and its [SEP] have token type second_type_id.

    Raises:
        EmptyInputError: A text has no token (only control characters, say).
        InputError: There is a second text, and the model has no token type for it.

    Source: `convert_single_example` and `_truncate_seq_pair` of Devlin et al.'s run_classifier.py.
    """
    for field, encoding in (("text", text), ("text_pair", text_pair)):
        if encoding is not None and not len(encoding.input_ids):
            raise EmptyInputError(f"{field}: got text without a single token, want readable text")
    if text_pair is None:
        ids = text.input_ids[: max_seq_length - 2]
        input_ids = np.concatenate(([cls_id], ids, [sep_id]), dtype=np.int32)
        return TokenSequence(input_ids, np.zeros(len(input_ids), np.int32))
    if second_type_id >= num_token_types:
        raise InputError(
            "text_pair: got a second text, want none: its tokens would be of type 1, and the model "
            "has one token type only (type_vocab_size 1)"
        )
    first, second = len(text.input_ids), len(text_pair.input_ids)
    room = max_seq_length - 2 - num_separators
    if first + second > room:
        # One token at a time off the longer one, off the second where both are as long.
        first, second = (
            max(min(first, room - room // 2), room - second),
            max(min(second, room // 2), room - first),
        )
    ids, pair_ids = text.input_ids[:first], text_pair.input_ids[:second]
    separators = [sep_id] * num_separators
    input_ids = np.concatenate(([cls_id], ids, separators, pair_ids, [sep_id]), dtype=np.int32)
    segments = np.array([0, second_type_id], np.int32)
    lengths = (len(ids) + 1 + num_separators, len(pair_ids) + 1)
    return TokenSequence(input_ids, np.repeat(segments, lengths))


def make_sequences(
    inputs: Sequence[TextInput],
    tokenizer: Tokenizer,
    *,
    max_seq_length: int,
    num_token_types: int = 2,
) -> Iterator[TokenSequence]:
    """Tokenize checked texts, all together, and make the model's inputs one by one.

    Args:
        inputs: Texts and pairs of texts.
        tokenizer: The model's.
        max_seq_length: As in make_sequence.
        num_token_types: As in make_sequence.

    Yields:
        One sequence a text or pair, in order.

    Raises:
        InputError: As in make_sequence; the sequences before it have come by then.
    """
    texts = [text for item in inputs for text in (item.text, item.text_pair) if text is not None]
    if len(texts) <= _FEW_TEXTS:
        encodings = iter([tokenizer.encode(text) for text in texts])
    else:
        encodings = iter(tokenizer.encode_batch(texts))
    ids = {
        "cls_id": tokenizer.cls_id,
        "sep_id": tokenizer.sep_id,
        "num_separators": tokenizer.num_separators,
        "num_token_types": num_token_types,
        "second_type_id": tokenizer.second_type_id,
    }
    for item in inputs:
        text = next(encodings)
        text_pair = None if item.text_pair is None else next(encodings)
        yield make_sequence(text, text_pair, max_seq_length=max_seq_length, **ids)


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


def _windows(num_tokens: int, room: int, step: int) -> tuple[list[int], list[int]]:
    """Return the first context token and the number of context tokens of every window."""
    num_windows = 1 + max(0, -(-(num_tokens - room) // step))
    if num_windows > MAX_WINDOWS:
        raise InputTooLongError(
            f"context: got {num_tokens} tokens, which are {num_windows} windows that move by "
            f"{step} tokens, want at most {MAX_WINDOWS} windows"
        )
    starts = [index * step for index in range(num_windows)]
    return starts, [min(room, num_tokens - start) for start in starts]


def _max_context(starts: list[int], lengths: list[int]) -> list[NDArray[np.bool_]]:
    """Mark, window by window, the tokens that no other window shows with more context around.

    Args:
        starts: First context token of every window, ascending.
        lengths: Context tokens of every window.

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
