"""Extractive summarization as a task: a document -> windows of sentences -> logits -> Summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.artifact.checks import check_fields, check_logit, check_string, plain_list
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ArtifactFormatError, EmptyInputError, EngineInternalError, InputError
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task, limits_of
from bert_rt.tasks.limits import SummaryConfig
from bert_rt.tasks.session import Session
from bert_rt.tasks.summarization.head_spec import HEAD
from bert_rt.tasks.summarization.rows import SummaryRows
from bert_rt.tasks.summarization.selection import choose_sentences
from bert_rt.tasks.summarization.windows import SentenceWindow, make_windows
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text, with_place
from bert_rt.text.sentences import sentence_spans
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Outputs, Summary, SummarySentence

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.support.faults import Dropped
    from bert_rt.support.progress import Progress
    from bert_rt.tasks.summarization.documents import SummarizedText
    from bert_rt.tasks.summarization.evaluation import SummaryEvaluation
    from bert_rt.tasks.summarization.http import SummarizeForm

__all__ = ["PreparedDocument", "Summarization", "SummaryOptions", "prepare_document"]

_MAX_SENTENCES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryOptions(CallOptions):
    """What a call to summarize asks for.

    Attributes:
        max_sentences: Sentences wanted; None for the artifact's.
        trigram_blocking: As in selection.choose_sentences.
    """

    max_sentences: int | None = None
    trigram_blocking: bool = True

    def __post_init__(self) -> None:
        """Check both fields.

        Raises:
            InputError: A field is out of range.
        """
        count = self.max_sentences
        is_count = isinstance(count, int) and not isinstance(count, bool)
        if count is not None and (not is_count or not 1 <= count <= 10_000):
            raise InputError(f"max_sentences: got {count!r}, want an integer from 1 to 10000")
        if not isinstance(self.trigram_blocking, bool):
            raise InputError(f"trigram_blocking: got {self.trigram_blocking!r}, want True or False")


@dataclass(frozen=True, slots=True, eq=False)
class PreparedDocument:
    """A document that is ready to be computed.

    Attributes:
        text: The document.
        spans: Character spans of its S sentences that have a token.
        windows: What the model reads.
    """

    text: str
    spans: list[tuple[int, int]]
    windows: list[SentenceWindow]

    @property
    def sequences(self) -> list[SentenceWindow]:
        """The windows."""
        return self.windows

    @property
    def sentences(self) -> list[str]:
        """The sentences as the document has them."""
        return [self.text[start:end] for start, end in self.spans]

    def logits(self, outputs: Sequence[Outputs]) -> NDArray[np.float64]:
        """Average the scores of each sentence's tokens, in the window that shows it best.

        Args:
            outputs: logits of shape (T, 1) of the windows.

        Returns:
            Shape (S,), float64.

        Raises:
            EngineInternalError: A logit is NaN or infinite.
        """
        logits = np.empty(len(self.spans))
        for window, output in zip(self.windows, outputs, strict=True):
            logits_T = output["logits"][:, 0].astype(np.float64)
            spans = zip(window.token_spans, window.is_best, strict=True)
            for index, ((start, end), is_best) in enumerate(spans):
                if is_best:
                    logits[window.first + index] = logits_T[start:end].mean()
        if not np.isfinite(logits).all():
            raise EngineInternalError("logits: got NaN or an infinite number, want finite numbers")
        return logits


class Summarization(Task[str, PreparedDocument, Summary]):
    """Chooses the sentences of a document that sum it up."""

    name = HEAD.name
    method = "summarize"
    noun = "texts"
    head_spec = HEAD
    limits_class = SummaryConfig
    data_files = "for summarization .jsonl with a text and summaries"
    options_class = SummaryOptions
    compared = ("logits",)

    def check_input(self, item: Any, place: str = "") -> str:
        """Check a document; raises InputError where it is no text, or empty or unreadable."""
        try:
            check_text("text", item, max_chars=MAX_TEXT_CHARS)
        except InputError as error:
            raise with_place(error, place) from None
        return str(item)

    def texts(self, item: str) -> list[str]:
        """Return the document."""
        return [item]

    def num_chars(self, item: str) -> int:
        """Return its length."""
        return len(item)

    def prepare(
        self, items: Sequence[str], session: Session, options: CallOptions
    ) -> Iterator[PreparedDocument]:
        """Find the sentences, tokenize them, and put them into windows; raises EmptyInputError."""
        for item in items:
            yield prepare_document(
                item,
                sentence_spans(item),
                session.tokenizer,
                options.limits,
                num_token_types=session.num_token_types,
            )

    def decode(
        self, prepared: PreparedDocument, outputs: Sequence[Outputs], options: CallOptions
    ) -> Summary:
        """Choose the sentences of the greatest scores, as SummaryOptions say."""
        logits = prepared.logits(outputs)
        sentences = prepared.sentences
        scores = 0.5 * (1.0 + np.tanh(0.5 * logits / options.score_temperature))
        chosen = choose_sentences(
            sentences,
            logits,
            max_sentences=getattr(options, "max_sentences", None) or options.limits.max_sentences,
            trigram_blocking=getattr(options, "trigram_blocking", True),
        )
        found = tuple(
            SummarySentence(sentences[i], *prepared.spans[i], float(scores[i]), i, float(logits[i]))
            for i in chosen
        )
        return Summary(" ".join(sentence.text for sentence in found), found)

    def read_limits(self, manifest: Manifest) -> SummaryConfig:
        """Return how documents are cut into windows and sentences are picked."""
        return limits_of(manifest, SummaryConfig)

    def check_outputs(self, outputs: Outputs, manifest: Manifest) -> None:
        """Refuse what is not one score a token."""
        shape = outputs["logits"].shape
        if shape[1:] != (1,):
            raise ArtifactFormatError(
                f"{manifest.model.file}: got logits of shape {shape} for a sequence, want "
                f"({shape[0]}, 1), one number a token"
            )

    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        """Refuse what is not a text with the scores of its sentences."""
        del manifest
        check_fields(where, item, {"text": check_string, "logits": _check_logits})

    def self_test_input(self, item: SelfTestItem) -> str:
        """Return the text."""
        return self.check_input(item["text"], "self_test")

    def self_test_result(
        self, prepared: PreparedDocument, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        """Return the text with the scores of its sentences."""
        del options
        return {"text": prepared.text, "logits": prepared.logits(outputs).tolist()}

    def read_examples(
        self,
        path: str | Path,
        layout: Any,
        labels: Sequence[str],
        head: Any = None,
        *,
        dropped: Dropped | None = None,
    ) -> list[SummarizedText]:
        """Read a file of documents with their summaries."""
        del layout, labels, head
        from bert_rt.tasks.summarization.documents import read_documents

        return read_documents(path, dropped=dropped)

    def http(self) -> SummarizeForm:
        """Return how it is asked by HTTP."""
        from bert_rt.tasks.summarization.http import SummarizeForm  # needs msgspec

        return SummarizeForm()

    def rows(self) -> SummaryRows:
        """Return the form of a column of documents, and summaries."""
        return SummaryRows()

    def evaluate(
        self,
        runtime: Runtime,
        examples: Sequence[SummarizedText],
        *,
        progress: Progress | None = None,
    ) -> SummaryEvaluation:
        """Measure ROUGE."""
        from bert_rt.tasks.summarization.evaluation import evaluate_summaries

        return evaluate_summaries(runtime, examples, progress=progress)


def prepare_document(
    text: str,
    spans: Sequence[tuple[int, int]],
    tokenizer: Tokenizer,
    limits: SummaryConfig,
    *,
    num_token_types: int,
) -> PreparedDocument:
    """Tokenize the sentences of a document and put them into windows.

    Args:
        text: The document.
        spans: Character spans of its sentences.
        tokenizer: The model's.
        limits: How windows are cut.
        num_token_types: How many the model has.

    Returns:
        The document; sentences without a token are left out, and those behind its last window.

    Raises:
        EmptyInputError: No sentence has a token.
        InputTooLongError: There would be too many windows.
    """
    encodings = tokenizer.encode_batch([text[start:end] for start, end in spans])
    rows = [
        (span, encoding.input_ids)
        for span, encoding in zip(spans, encodings, strict=True)
        if len(encoding.input_ids)
    ]
    if not rows:
        raise EmptyInputError("text: got text without a single token, want readable text")
    windows = make_windows(
        [ids for _, ids in rows],
        limits,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        num_token_types=num_token_types,
    )
    num_read = windows[-1].first + len(windows[-1].places)
    return PreparedDocument(text, [span for span, _ in rows[:num_read]], windows)


def _check_logits(where: str, value: object) -> None:
    for number in plain_list(where, value, _MAX_SENTENCES):
        check_logit(where, number)
