"""Checked texts -> sequences of the model, cut off where the model ends.

[CLS] text [SEP]      or      [CLS] text [SEP] second text [SEP]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bert_rt.errors import EmptyInputError, InputError
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, TextInput, TokenSequence

__all__ = ["make_sequence", "make_sequences"]

# With fewer texts than this the pool of threads costs more than it saves.
_FEW_TEXTS = 8


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
    for item in inputs:
        text = next(encodings)
        text_pair = None if item.text_pair is None else next(encodings)
        yield make_sequence(
            text,
            text_pair,
            max_seq_length=max_seq_length,
            num_token_types=num_token_types,
            **tokenizer.pair_tokens,
        )
