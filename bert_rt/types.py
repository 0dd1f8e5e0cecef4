"""The values that travel along the path from text to answer.

    Question -> Encoding -> Feature -> PackedBatch -> Outputs -> Answer
    TextInput -> Encoding -> TokenSequence -> PackedBatch -> Outputs -> Classification
    a text or words -> Encoding -> Feature -> PackedBatch -> Outputs -> Tagging
    a document -> Encodings of sentences -> windows -> PackedBatch -> Outputs -> Summary
    a text -> Encodings of sentences -> sources -> PackedBatch -> Outputs -> TranslatedText

Every arrow is one function; each value is frozen, so a step can only make the next one.

Shape suffixes used in the package: B sequences, S padded length, T packed tokens, D hidden,
N heads, H head dim, F feed-forward dim, V vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from bert_rt.support.outputs import PER_SEQUENCE, PER_TOKEN

__all__ = [
    "PER_SEQUENCE",
    "PER_TOKEN",
    "Answer",
    "Classification",
    "Encoding",
    "Entity",
    "Feature",
    "FloatArray",
    "IntArray",
    "Outputs",
    "PackedBatch",
    "PairTokens",
    "PreparedContexts",
    "Question",
    "Summary",
    "SummarySentence",
    "TaggedWord",
    "Tagging",
    "TextInput",
    "TokenSequence",
    "TranslatedSentence",
    "TranslatedText",
]

IntArray: TypeAlias = NDArray[np.int32]
FloatArray: TypeAlias = NDArray[np.float32]

# What a model says, by the names of its graph's outputs. Of a PackedBatch an output per token has
# the shape (T, ...), one per sequence (B, ...); of one sequence (T, ...) and (...).
Outputs: TypeAlias = Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Question:
    """One question over one passage, as the caller wrote them."""

    question: str
    context: str


@dataclass(frozen=True, slots=True)
class PreparedContexts:
    """What Runtime.prepared has done.

    Attributes:
        num_contexts: Passages that are kept now.
        num_left_out: Passages that there was no room for.
        num_loaded: Windows that came out of the file.
        num_computed: Windows that were computed; where there are any, the file was written.
    """

    num_contexts: int
    num_left_out: int
    num_loaded: int
    num_computed: int


@dataclass(frozen=True, slots=True)
class TextInput:
    """One text to classify, or a pair of texts, as the caller wrote them."""

    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text as tokens, without special tokens; every token knows its characters.

    Attributes:
        input_ids: Token ids of shape (T,), int32.
        offsets: Half-open character spans of shape (T, 2), int32, in the caller's own string.
    """

    input_ids: IntArray
    offsets: IntArray


class PairTokens(TypedDict):
    """What joins two texts; the names and meanings are those of Tokenizer's attributes."""

    cls_id: int
    sep_id: int
    num_separators: int
    second_type_id: int


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One input of the model: `[CLS] text [SEP]` or `[CLS] text [SEP] second text [SEP]`.

    Attributes:
        input_ids: Shape (T,), int32, special tokens included.
        token_type_ids: Shape (T,), int32; 0 for the first part, 1 for the second.
    """

    input_ids: IntArray
    token_type_ids: IntArray

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, special tokens included."""
        return len(self.input_ids)

    @property
    def logit_range(self) -> tuple[int, int]:
        """First and one past the last token whose logits are read, beside the first token's."""
        return 0, self.num_tokens

    @property
    def options(self) -> Any:
        """What the sequence asks of the engine, beside its tokens; None where nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Feature(TokenSequence):
    """One window: `[CLS] question [SEP] slice of the context [SEP]`.

    Attributes:
        question_index: Which question of the request this window belongs to.
        context_offset: Position in input_ids of the window's first context token.
        context_start: Index of that token in the whole context's encoding.
        context_length: Number of context tokens in this window (the final [SEP] excluded).
        is_max_context: Shape (context_length,), bool; True where no other window of the same
            question shows the token with more context around it.
    """

    question_index: int
    context_offset: int
    context_start: int
    context_length: int
    is_max_context: NDArray[np.bool_]

    @property
    def logit_range(self) -> tuple[int, int]:
        """The context's tokens; those of [CLS] are the score of "no answer"."""
        return self.context_offset, self.context_offset + self.context_length


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences one behind the other, without padding.

    Sequence b is rows cu_seqlens[b] to cu_seqlens[b + 1] of every (T,) array.

    Attributes:
        input_ids: Shape (T,), int32.
        token_type_ids: Shape (T,), int32.
        cu_seqlens: Cumulative lengths of shape (B + 1,), int32; the first is 0, the last is T.
        max_seqlen: Length in tokens of the longest sequence.
        logit_ranges: Shape (B, 2), int32: by sequence the first and one past the last of its tokens
            whose logits are read, counted from its first token, whose own are read too; None
            where all are. An engine may leave the other tokens' logits at 0, or compute them.
        options: By sequence what it asks of the engine; None where no sequence asks for anything.

    Source: cumulative lengths as in FlashAttention's variable-length interface, arXiv:2205.14135.
    """

    input_ids: IntArray
    token_type_ids: IntArray
    cu_seqlens: IntArray
    max_seqlen: int
    logit_ranges: IntArray | None = None
    options: tuple[Any, ...] | None = None

    @property
    def num_sequences(self) -> int:
        """Number of sequences, B."""
        return len(self.cu_seqlens) - 1

    @property
    def num_tokens(self) -> int:
        """Number of tokens over all sequences, T."""
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of the caller's own context: `context[answer.start:answer.end] == answer.text`.

    Attributes:
        text: The exact slice; empty where the model says that the context holds no answer.
        start: First character, in Python string indices.
        end: One past the last character.
        score: Probability in [0, 1] of this span among all admissible spans of the context, by the
            artifact's score_temperature.
        logit: Start logit plus end logit of the span (the model's raw score).
        null_score: Raw score of "no answer" (the least [CLS] score over the windows).
        alternatives: With top_k > 1, the next best spans of the same question, best first.
    """

    text: str
    start: int
    end: int
    score: float
    logit: float = 0.0
    null_score: float = 0.0
    alternatives: tuple[Answer, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Classification:
    """A class of a text, one of its labels, or the value that a regression gives it.

    Attributes:
        label: The class's name.
        score: Probability in [0, 1] of this class among all classes, or of this label by itself,
            by the artifact's score_temperature; of a regression the value.
        index: Place of the class among the artifact's labels.
        logit: The model's raw score of this class.
        logits: Raw scores of all classes, in the order of the artifact's labels.
        alternatives: The next best classes or labels of the same text, best first: as many as
            top_k asked for.
    """

    label: str
    score: float
    index: int
    logit: float
    logits: tuple[float, ...]
    alternatives: tuple[Classification, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class TaggedWord:
    """A word of a text with its label: `tagging.text[word.start:word.end] == word.text`.

    Attributes:
        text: The exact slice.
        start: First character, in Python string indices.
        end: One past the last character.
        label: The label's name, such as "B-PER" or "O".
        score: Probability in [0, 1] of this label among all labels, by the artifact's
            score_temperature.
        index: Place of the label among the artifact's labels.
        logits: Raw scores of all labels, in the order of the artifact's labels.
    """

    text: str
    start: int
    end: int
    label: str
    score: float
    index: int
    logits: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Entity:
    """Neighbouring words of one kind: `tagging.text[entity.start:entity.end] == entity.text`.

    Attributes:
        text: The exact slice, from the first word to the last one.
        start: First character, in Python string indices.
        end: One past the last character.
        label: The kind, such as "PER": the words' labels without their prefixes.
        score: Mean of the words' scores, in [0, 1].
    """

    text: str
    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Tagging:
    """The labels of a text's words, and the entities that they make.

    Attributes:
        text: The text; of words that the caller gave, those with single spaces between them.
        words: The words in order.
        entities: The entities in order; words with the label "O" are in none.
    """

    text: str
    words: tuple[TaggedWord, ...]
    entities: tuple[Entity, ...]


@dataclass(frozen=True, slots=True)
class SummarySentence:
    """A sentence of the caller's text: `text[sentence.start:sentence.end] == sentence.text`.

    Attributes:
        text: The exact slice.
        start: First character, in Python string indices.
        end: One past the last character.
        score: Probability in [0, 1] that the sentence belongs into a summary, by the artifact's
            score_temperature.
        index: Place of the sentence among all sentences of the document, from 0.
        logit: The model's raw score.
    """

    text: str
    start: int
    end: int
    score: float
    index: int
    logit: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The sentences of a document that sum it up.

    Attributes:
        text: The sentences with single spaces between them.
        sentences: The sentences in the order of the document.
    """

    text: str
    sentences: tuple[SummarySentence, ...]


@dataclass(frozen=True, slots=True)
class TranslatedSentence:
    """A sentence of the caller's text, `text[sentence.start:sentence.end]`, translated.

    Attributes:
        text: The sentence in the other language.
        start: First character of the sentence in the caller's text, in Python string indices.
        end: One past its last character.
        score: Sum of the log probabilities of its tokens, divided by their number to the power of
            length_penalty: what beam search compares.
        token_ids: Its tokens, special tokens included.
        alternatives: With top_k > 1, the next best ones, best first.
    """

    text: str
    start: int
    end: int
    score: float
    token_ids: tuple[int, ...] = ()
    alternatives: tuple[TranslatedSentence, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class TranslatedText:
    """A text in another language.

    Attributes:
        text: Its sentences in that language, with what stands between them in the text.
        sentences: The sentences in the order of the text.
    """

    text: str
    sentences: tuple[TranslatedSentence, ...]
