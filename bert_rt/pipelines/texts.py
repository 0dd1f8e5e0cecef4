"""Texts -> the model's input, cut off as Transformers 4.x cuts them, for pipelines over texts."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bert_rt.errors import InputError, InputTooLongError
from bert_rt.pipelines.base import check_int, reject_unknown
from bert_rt.pipelines.loading import AnyModel
from bert_rt.tasks.text_classification.sequences import make_sequence
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, TextInput, TokenSequence

__all__ = ["Truncation", "check_input", "make_input", "read_truncation"]

_STRATEGIES = ("longest_first", "only_first", "only_second")
_OFF = (False, "do_not_truncate")


@dataclass(frozen=True, slots=True)
class Truncation:
    """What happens to a text that is too long.

    Attributes:
        strategy: "longest_first", "only_first" or "only_second"; None to refuse it.
        max_length: Most tokens of a sequence, special tokens included.
    """

    strategy: str | None
    max_length: int


def read_truncation(settings: Mapping[str, Any], model: AnyModel) -> Truncation:
    """Read the tokenizer's settings that a caller gave.

    Args:
        settings: truncation, max_length and padding (which has no effect: nothing is padded).
        model: Its lengths are the bounds.

    Returns:
        What was asked for.

    Raises:
        InputError: A setting is unknown or out of range.
    """
    reject_unknown(settings, ("truncation", "max_length", "padding"))
    longest = model.max_sequence_length
    max_length = settings.get("max_length")
    strategy = settings.get("truncation")
    if max_length is not None:
        check_int("max_length", max_length, 4, longest)
    if (strategy is None and max_length is not None) or strategy is True:
        strategy = "longest_first"
    if strategy is None or strategy in _OFF:
        return Truncation(None, longest)
    strategy = str(getattr(strategy, "value", strategy))
    if strategy not in _STRATEGIES:
        raise InputError(f"truncation: got {strategy!r}, want True, False or one of {_STRATEGIES}")
    return Truncation(strategy, max_length or model.model_max_length)


def check_input(value: Any, place: str) -> TextInput:
    """Check a text or a pair of texts.

    Args:
        value: A string, or a dictionary of "text" and perhaps "text_pair".
        place: Where it stands, for messages.

    Returns:
        The texts.

    Raises:
        InputError: It is something else, or a text is empty, too long or unreadable.
    """
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, Mapping) or not {"text"} <= set(value) <= {"text", "text_pair"}:
        got = reprlib.repr(value)
        raise InputError(
            f"{place}: got {got}, want a text, or {{'text': ..., 'text_pair': ...}} for a pair"
        )
    for name, text in value.items():
        if name == "text" or text is not None:
            check_text(f"{place}.{name}", text, max_chars=MAX_TEXT_CHARS)
    return TextInput(value["text"], value.get("text_pair"))


def make_input(
    tokenizer: Tokenizer,
    item: TextInput,
    truncation: Truncation,
    *,
    place: str,
    masks: bool = False,
    num_token_types: int = 2,
) -> TokenSequence:
    """Make the model's input of a text or a pair.

    Args:
        tokenizer: The model's tokenizer.
        item: Checked texts.
        truncation: What happens where they are too long.
        place: Where the input stands, for messages.
        masks: Whether "[MASK]" in a text is the mask token; it is plain text otherwise.
        num_token_types: How many the model has (BertConfig.num_token_types).

    Returns:
        The sequence.

    Raises:
        EmptyInputError: A text has no token.
        InputTooLongError: The sequence is too long, and stays so.
        InputError: There is a second text, and the model has no token type for it.
    """
    texts = [item.text] if item.text_pair is None else [item.text, item.text_pair]
    ids = [_encode(tokenizer, text, masks) for text in texts]
    num_special = 2 if len(ids) == 1 else 2 + tokenizer.num_separators
    room = truncation.max_length - num_special
    lengths = _shortened([len(part) for part in ids], room, truncation.strategy)
    if sum(lengths) > room:
        raise InputTooLongError(
            f"{place}: got {sum(map(len, ids)) + num_special} tokens, want at most "
            f"{truncation.max_length}; truncation=True cuts off what is too much"
        )
    encodings = [
        Encoding(part[:length], np.zeros((length, 2), np.int32))
        for part, length in zip(ids, lengths, strict=True)
    ]
    try:
        return make_sequence(
            *encodings,
            max_seq_length=truncation.max_length,
            num_token_types=num_token_types,
            **tokenizer.pair_tokens,
        )
    except InputError as error:
        raise type(error)(f"{place}.{error}") from None


def _encode(tokenizer: Tokenizer, text: str, masks: bool) -> Any:
    if not masks or tokenizer.mask_token not in text:
        return tokenizer.encode(text).input_ids
    parts = []
    for piece in text.split(tokenizer.mask_token):
        parts += [tokenizer.encode(piece).input_ids, np.array([tokenizer.mask_id], np.int32)]
    return np.concatenate(parts[:-1])


def _shortened(lengths: list[int], room: int, strategy: str | None) -> list[int]:
    """Return how many tokens of each text stay; they may still be too many."""
    surplus = sum(lengths) - room
    if surplus <= 0 or strategy is None:
        return lengths
    if strategy == "longest_first" and len(lengths) == 2:
        shorter, longer = sorted(lengths)
        longer = max(shorter, room - shorter)
        if shorter + longer > room:
            shorter, longer = room // 2, room - room // 2
        return [shorter, longer] if lengths[0] <= lengths[1] else [longer, shorter]
    index = 1 if strategy == "only_second" else 0
    if index >= len(lengths) or lengths[index] <= surplus:
        return lengths
    return [n - surplus if i == index else n for i, n in enumerate(lengths)]
