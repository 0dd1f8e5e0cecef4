"""A text to the sequences that a model translates: its sentences, or pieces of long ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bert_rt.engines.seq2seq.base import Asked
from bert_rt.errors import EmptyInputError
from bert_rt.generation.config import GenerationConfig
from bert_rt.text.sentences import sentence_spans
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, TokenSequence

__all__ = ["SourceSequence", "make_sources"]

_NUM_SPECIAL = 2


@dataclass(frozen=True, slots=True)
class SourceSequence(TokenSequence):
    """`[CLS] sentence [SEP]`.

    Attributes:
        start: First character of the sentence in its text.
        end: One past its last character.
        asked: How its translation is searched, and who watches.
    """

    start: int
    end: int
    asked: Asked

    @property
    def options(self) -> Asked:
        """How its translation is searched, and who watches."""
        return self.asked


def make_sources(
    text: str,
    tokenizer: Tokenizer,
    search: GenerationConfig,
    watch: Callable[[int, tuple[int, ...]], None] | None = None,
    *,
    max_seq_length: int,
    split_sentences: bool = True,
) -> list[SourceSequence]:
    """Cut a text into sentences and tokenize them.

    Args:
        text: The text.
        tokenizer: The source's.
        search: How translations are searched.
        watch: Called with a sequence's number, and the tokens of its translation that are sure;
            None for nobody.
        max_seq_length: Most tokens of a sequence. A sentence with more is cut into pieces, between
            words where there are such.
        split_sentences: Whether the text is cut into its sentences first; else it is one.

    Returns:
        The sequences in the order of the text; sentences without a token are left out.

    Raises:
        EmptyInputError: No sentence has a token.
    """
    spans = sentence_spans(text) if split_sentences else [(0, len(text))]
    encodings = tokenizer.encode_batch([text[start:end] for start, end in spans])
    cls_id, sep_id = tokenizer.cls_id, tokenizer.sep_id
    sources: list[SourceSequence] = []
    for (start, _), encoding in zip(spans, encodings, strict=True):
        for first, last in _pieces(text, start, encoding, max_seq_length - _NUM_SPECIAL):
            ids = np.concatenate(([cls_id], encoding.input_ids[first:last], [sep_id]))
            watcher = None if watch is None else partial(watch, len(sources))
            sources.append(
                SourceSequence(
                    ids.astype(np.int32),
                    np.zeros(len(ids), np.int32),
                    start + int(encoding.offsets[first][0]),
                    start + int(encoding.offsets[last - 1][1]),
                    Asked(search, watcher),
                )
            )
    if not sources:
        raise EmptyInputError("text: got text without a single token, want readable text")
    return sources


def _pieces(text: str, start: int, encoding: Encoding, room: int) -> list[tuple[int, int]]:
    """Cut a sentence's tokens into pieces of at most room tokens."""
    num_tokens, first, pieces = len(encoding.input_ids), 0, []
    while num_tokens - first > room:
        last = first + room
        # Back to where a word begins; a run of characters without white space is cut anywhere.
        for place in range(last, first, -1):
            offset = start + int(encoding.offsets[place][0])
            if offset and text[offset - 1].isspace():
                last = place
                break
        pieces.append((first, last))
        first = last
    return [*pieces, (first, num_tokens)] if num_tokens else []
