"""Token classification as a task: a text or its words -> windows -> logits -> Tagging.

Shapes: T tokens of a text, W words, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.artifact.checks import (
    MAX_LABELS,
    check_fields,
    check_logit,
    check_string,
    plain_list,
    refuse,
)
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ArtifactFormatError, EngineInternalError, InputError
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task, limits_of
from bert_rt.tasks.limits import WindowLimits
from bert_rt.tasks.session import Session
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text, with_place
from bert_rt.tasks.token_classification.chunks import find_chunks
from bert_rt.tasks.token_classification.head_spec import HEAD
from bert_rt.tasks.token_classification.layout import WordFields
from bert_rt.tasks.token_classification.rows import TagRows
from bert_rt.tasks.token_classification.windows import make_windows
from bert_rt.tasks.token_classification.words import Words, find_words, join_words, place_words
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, Entity, Feature, Outputs, TaggedWord, Tagging

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.support.faults import Dropped
    from bert_rt.support.progress import Progress
    from bert_rt.tasks.token_classification.evaluation import TagEvaluation
    from bert_rt.tasks.token_classification.http import TagForm
    from bert_rt.tasks.token_classification.labelled import LabelledWords

__all__ = [
    "PreparedWords",
    "TextOfWords",
    "TokenClassification",
    "prepare_words",
    "word_logits",
]

# With fewer texts than this the pool of threads costs more than it saves.
_FEW_TEXTS = 8


@dataclass(frozen=True, slots=True)
class TextOfWords:
    """A checked input.

    Attributes:
        text: The text.
        spans: Character spans of its words, where the caller gave words; None where they are to be
            found.
    """

    text: str
    spans: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PreparedWords:
    """A text that is ready to be computed.

    Attributes:
        text: The text.
        words: Its words, and the token of each.
        num_tokens: Number of the text's tokens, T.
        windows: What the model reads.
    """

    text: str
    words: Words
    num_tokens: int
    windows: list[Feature]

    @property
    def sequences(self) -> list[Feature]:
        """The windows."""
        return self.windows


class TokenClassification(Task[TextOfWords, PreparedWords, Tagging]):
    """Gives every word of a text a label, and finds the entities that the labels make."""

    name = HEAD.name
    method = "tag"
    noun = "texts"
    head_spec = HEAD
    limits_class = WindowLimits
    layout_class = WordFields
    data_files = "for token classification .jsonl with lists of words and of tags"
    compared = ("logits",)

    def check_input(self, item: Any, place: str = "") -> TextOfWords:
        """Check a text, or its words, as the user gave them.

        Args:
            item: A string, a list or tuple of words, or what this method returned.
            place: Where it stands, for messages, such as "texts[3]".

        Returns:
            The text, and the words' spans where words were given.

        Raises:
            InputError: It is none of these, or a text or word is empty, too long or unreadable.
        """
        try:
            if isinstance(item, TextOfWords):
                return item
            if isinstance(item, list | tuple):
                return _check_words(item)
            check_text("text", item, max_chars=MAX_TEXT_CHARS)
        except InputError as error:
            raise with_place(error, place) from None
        return TextOfWords(item)

    def texts(self, item: TextOfWords) -> list[str]:
        """Return the text."""
        return [item.text]

    def num_chars(self, item: TextOfWords) -> int:
        """Return the text's length."""
        return len(item.text)

    def prepare(
        self, items: Sequence[TextOfWords], session: Session, options: CallOptions
    ) -> Iterator[PreparedWords]:
        """Tokenize texts, find their words and cut them into windows; raises EmptyInputError."""
        tokenizer = session.tokenizer
        texts = [item.text for item in items]
        encodings: list[Encoding] | None = None
        if len(texts) > _FEW_TEXTS:
            encodings = tokenizer.encode_batch(texts)
        for index, item in enumerate(items):
            encoding = encodings[index] if encodings else tokenizer.encode(item.text)
            yield prepare_words(item, encoding, tokenizer, options.limits)

    def decode(
        self, prepared: PreparedWords, outputs: Sequence[Outputs], options: CallOptions
    ) -> Tagging:
        """Give every word the label of the greatest logit; of equal ones the first."""
        logits_WC = word_logits(prepared, outputs)
        weights_WC = np.exp(
            (logits_WC - logits_WC.max(axis=1, keepdims=True)) / options.score_temperature
        )
        index_W = logits_WC.argmax(axis=1)
        score_W = weights_WC[np.arange(len(index_W)), index_W] / weights_WC.sum(axis=1)
        text = prepared.text
        rows = zip(
            prepared.words.spans_W2.tolist(),
            index_W.tolist(),
            score_W.tolist(),
            logits_WC.tolist(),
            strict=True,
        )
        words = tuple(
            TaggedWord(text[start:end], start, end, options.labels[index], score, index, tuple(row))
            for (start, end), index, score, row in rows
        )
        return Tagging(text, words, _entities(text, words))

    def read_limits(self, manifest: Manifest) -> WindowLimits:
        """Return how texts are cut into windows."""
        return limits_of(manifest, WindowLimits)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Refuse a model without labels."""
        if not labels:
            raise ArtifactFormatError(
                f"manifest.labels: got none, want at least one for {self.name}"
            )

    def check_outputs(self, outputs: Outputs, manifest: Manifest) -> None:
        """Compare the number of a token's logits with the number of labels."""
        shape, count = outputs["logits"].shape, len(manifest.labels)
        if shape[1:] != (count,):
            raise ArtifactFormatError(
                f"{manifest.model.file}: got logits of shape {shape} for a sequence, want "
                f"({shape[0]}, {count}), one for each of manifest.labels"
            )

    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        """Refuse what is not a text with the logits of all its words."""
        check_fields(where, item, _SELF_TEST_FIELDS)
        count = len(manifest.labels)
        if not item["logits"] or any(len(row) != count for row in item["logits"]):
            refuse(f"{where}.logits", item["logits"], f"{count} numbers a word, one a label")

    def self_test_input(self, item: SelfTestItem) -> TextOfWords:
        """Return the text."""
        return self.check_input(item["text"], "self_test")

    def self_test_result(
        self, prepared: PreparedWords, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        """Return the text with the logits of all its words."""
        del options
        return {"text": prepared.text, "logits": word_logits(prepared, outputs).tolist()}

    def read_examples(
        self,
        path: str | Path,
        layout: WordFields,
        labels: Sequence[str],
        head: Any = None,
        *,
        dropped: Dropped | None = None,
    ) -> list[LabelledWords]:
        """Read a file of labelled words, checked against the model's labels."""
        del head
        from bert_rt.tasks.token_classification.labelled import read_labelled, tag_indices

        examples = read_labelled(path, layout, dropped=dropped)
        tag_indices(examples, labels)
        return examples

    def http(self) -> TagForm:
        """Return how it is asked by HTTP."""
        from bert_rt.tasks.token_classification.http import TagForm  # needs msgspec

        return TagForm()

    def rows(self) -> TagRows:
        """Return the form of a column of texts, and entities."""
        return TagRows()

    def evaluate(
        self,
        runtime: Runtime,
        examples: Sequence[LabelledWords],
        *,
        progress: Progress | None = None,
    ) -> TagEvaluation:
        """Measure F1 of the entities and accuracy of the words' labels."""
        from bert_rt.tasks.token_classification.evaluation import evaluate_tags

        return evaluate_tags(runtime, examples, progress=progress)


def prepare_words(
    item: TextOfWords, encoding: Encoding, tokenizer: Tokenizer, limits: WindowLimits
) -> PreparedWords:
    """Find a text's words and cut it into windows.

    Args:
        item: The checked text.
        encoding: Its tokens.
        tokenizer: The model's.
        limits: How windows are cut.

    Returns:
        The text, ready to be computed.

    Raises:
        EmptyInputError: The text, or one of its words, has no token.
        InputTooLongError: There would be too many windows.
    """
    words = (
        find_words(item.text, encoding.offsets)
        if item.spans is None
        else place_words(item.text, item.spans, encoding.offsets)
    )
    windows = make_windows(encoding, limits, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id)
    return PreparedWords(item.text, words, len(encoding.input_ids), windows)


def word_logits(prepared: PreparedWords, outputs: Sequence[Outputs]) -> NDArray[np.float64]:
    """Collect the logits of a text's words, each from the window that shows its token best.

    Args:
        prepared: The text.
        outputs: logits of shape (T, C) of its windows.

    Returns:
        Shape (W, C), float64.

    Raises:
        EngineInternalError: A logit is NaN or infinite.
    """
    logits_TC = np.empty((prepared.num_tokens, outputs[0]["logits"].shape[1]))
    for window, output in zip(prepared.windows, outputs, strict=True):
        begin, count = window.context_offset, window.context_length
        shown = slice(window.context_start, window.context_start + count)
        is_best = window.is_max_context
        logits_TC[shown][is_best] = output["logits"][begin : begin + count][is_best]
    logits_WC: NDArray[np.float64] = logits_TC[prepared.words.first_W]
    if not np.isfinite(logits_WC).all():
        raise EngineInternalError("logits: got NaN or an infinite number, want finite numbers")
    return logits_WC


def _check_words(words: Sequence[Any]) -> TextOfWords:
    if not words:
        raise InputError("words: got none, want at least one word")
    for index, word in enumerate(words):
        check_text(f"words[{index}]", word, max_chars=MAX_TEXT_CHARS)
    text, spans = join_words(words)
    check_text("words", text, max_chars=MAX_TEXT_CHARS)
    return TextOfWords(text, spans)


def _entities(text: str, words: Sequence[TaggedWord]) -> tuple[Entity, ...]:
    result = []
    for kind, first, end in find_chunks([word.label for word in words]):
        begin, stop = words[first].start, words[end - 1].end
        score = sum(word.score for word in words[first:end]) / (end - first)
        result.append(Entity(text[begin:stop], begin, stop, kind, score))
    return tuple(result)


def _check_logits(where: str, value: object) -> None:
    for row in plain_list(where, value, MAX_LABELS):
        for number in plain_list(where, row, MAX_LABELS):
            check_logit(where, number)


_SELF_TEST_FIELDS = {"text": check_string, "logits": _check_logits}
