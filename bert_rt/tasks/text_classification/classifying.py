"""Text classification as a task: texts or pairs of texts -> sequences -> logits -> Classification.

A text longer than the artifact's max_seq_length is cut off there, as BERT's run_classifier.py does
and as such models were trained: its end is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.artifact.checks import (
    MAX_LABELS,
    check_fields,
    check_logit,
    check_string,
    plain_list,
    refuse,
)
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ArtifactFormatError, ConfigError, InputError
from bert_rt.model.config import from_dict
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task, limits_of
from bert_rt.tasks.limits import AnsweringConfig, SequenceLimits
from bert_rt.tasks.session import Session
from bert_rt.tasks.text_classification.classes import rank_classes
from bert_rt.tasks.text_classification.head import MULTI_LABEL, ClassifierHead
from bert_rt.tasks.text_classification.head_spec import HEAD
from bert_rt.tasks.text_classification.rows import ClassRows, Columns
from bert_rt.tasks.text_classification.sequences import make_sequences
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text, with_place
from bert_rt.types import Classification, Outputs, TextInput, TokenSequence

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.support.faults import Dropped
    from bert_rt.support.progress import Progress
    from bert_rt.tasks.text_classification.http import ClassifyForm
    from bert_rt.tasks.text_classification.labelled import LabelledText
    from bert_rt.tasks.text_classification.scoring import ClassifierEvaluation

__all__ = ["PreparedText", "TextClassification"]


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text, or a pair, that is ready to be computed.

    Attributes:
        input: The texts as the caller wrote them.
        sequence: What the model reads.
    """

    input: TextInput
    sequence: TokenSequence

    @property
    def sequences(self) -> tuple[TokenSequence]:
        """The only sequence."""
        return (self.sequence,)


class TextClassification(Task[TextInput, PreparedText, Classification]):
    """Sorts texts, or pairs of texts, into classes, or gives them labels or a number."""

    name = HEAD.name
    method = "classify"
    noun = "texts"
    head_spec = HEAD
    limits_class = SequenceLimits
    layout_class = Columns
    data_files = "for text classification .tsv, .csv or .jsonl"
    compared = ("logits",)

    def check_input(self, item: Any, place: str = "") -> TextInput:
        """Check a text or a pair of texts, as the user gave it.

        Args:
            item: A TextInput, a string, or a tuple or list of text and second text.
            place: Where it stands, for messages, such as "texts[3]".

        Returns:
            The text or texts.

        Raises:
            InputError: It is none of these, or a text is empty, too long or unreadable.
        """
        texts: tuple[Any, ...] = (item,)
        if isinstance(item, TextInput):
            texts = (item.text,) if item.text_pair is None else (item.text, item.text_pair)
        elif isinstance(item, tuple | list):
            texts = tuple(item)
            if len(texts) != 2:
                raise InputError(f"{place}: got {len(texts)} texts, want a text or a pair of them")
        try:
            for field, text in zip(("text", "text_pair"), texts, strict=False):
                check_text(field, text, max_chars=MAX_TEXT_CHARS)
        except InputError as error:
            raise with_place(error, place) from None
        return TextInput(*texts)

    def texts(self, item: TextInput) -> list[str]:
        """Return the text, or both."""
        return [item.text] if item.text_pair is None else [item.text, item.text_pair]

    def num_chars(self, item: TextInput) -> int:
        """Return the length of both texts."""
        return len(item.text) + len(item.text_pair or "")

    def prepare(
        self, items: Sequence[TextInput], session: Session, options: CallOptions
    ) -> Iterator[PreparedText]:
        """Tokenize texts and cut them off at limits.max_seq_length; raises EmptyInputError."""
        length = options.limits.max_seq_length
        # The sequences first: where one cannot be made, the item before it was the last.
        sequences = make_sequences(
            items,
            session.tokenizer,
            max_seq_length=length,
            num_token_types=session.num_token_types,
        )
        for sequence, item in zip(sequences, items, strict=True):
            yield PreparedText(item, sequence)

    def decode(
        self, prepared: PreparedText, outputs: Sequence[Outputs], options: CallOptions
    ) -> Classification:
        """Rank the classes by their logits; where the options have no head, by a softmax."""
        (output,) = outputs
        head: ClassifierHead = options.head or _USUAL_HEAD
        return rank_classes(
            output["logits"],
            options.labels,
            top_k=options.top_k,
            score_temperature=options.score_temperature,
            function=head.function_to_apply,
        )

    def read_limits(self, manifest: Manifest) -> SequenceLimits:
        """Return how long a sequence may be; version 1 has the fields of answering beside it."""
        if manifest.version == 1:
            return SequenceLimits(
                max_seq_length=limits_of(manifest, AnsweringConfig).max_seq_length
            )
        return limits_of(manifest, SequenceLimits)

    def read_head(self, manifest: Manifest) -> ClassifierHead:
        """Return the kind of the head; an empty "head" means one class a text, by a softmax."""
        if not manifest.head:
            return _USUAL_HEAD
        if set(manifest.head) != _HEAD_FIELDS:
            refuse("head", sorted(manifest.head), f"the fields {', '.join(sorted(_HEAD_FIELDS))}")
        try:
            head = from_dict(ClassifierHead, manifest.head)
            head.check_labels(manifest.labels)
        except ConfigError as error:
            raise ArtifactFormatError(f"manifest.head: {str(error)[:500]}") from None
        return head

    def default_top_k(self, manifest: Manifest) -> int:
        """Return 1; where labels do not exclude each other, as many as there are."""
        is_multi_label = self.read_head(manifest).problem_type == MULTI_LABEL
        return len(manifest.labels) if is_multi_label else 1

    def check_labels(self, labels: Sequence[str]) -> None:
        """Refuse a classifier without classes."""
        if not labels:
            raise ArtifactFormatError(
                f"manifest.labels: got none, want at least one for {self.name}"
            )

    def check_outputs(self, outputs: Outputs, manifest: Manifest) -> None:
        """Compare the number of logits with the number of labels."""
        shape, count = outputs["logits"].shape, len(manifest.labels)
        if shape != (count,):
            raise ArtifactFormatError(
                f"{manifest.model.file}: got logits of shape {shape} for a text, want ({count},), "
                "one for each of manifest.labels"
            )

    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        """Refuse what is not a text or a pair with one logit a label."""
        check_fields(where, item, _SELF_TEST_FIELDS)
        if len(item["logits"]) != len(manifest.labels):
            want = f"{len(manifest.labels)} numbers, one a label"
            refuse(f"{where}.logits", item["logits"], want)

    def self_test_input(self, item: SelfTestItem) -> TextInput:
        """Return the text or the pair."""
        return self.check_input(TextInput(item["text"], item["text_pair"]), "self_test")

    def self_test_result(
        self, prepared: PreparedText, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        """Return the texts with all logits."""
        result = self.decode(prepared, outputs, options)
        texts = {"text": prepared.input.text, "text_pair": prepared.input.text_pair}
        return {**texts, "logits": list(result.logits)}

    def http(self) -> ClassifyForm:
        """Return the fields text and text_pair, and the classes."""
        from bert_rt.tasks.text_classification.http import ClassifyForm

        return ClassifyForm()

    def rows(self) -> ClassRows:
        """Return the form of columns of texts, and classes."""
        return ClassRows()

    def read_examples(
        self,
        path: str | Path,
        layout: Columns,
        labels: Sequence[str],
        head: ClassifierHead | None = None,
        *,
        dropped: Dropped | None = None,
    ) -> list[LabelledText]:
        """Read a file of labelled texts: of classes, labels or numbers, as the head has them."""
        from bert_rt.tasks.text_classification.targets import TARGETS

        target = TARGETS[(head or _USUAL_HEAD).problem_type]
        return target.read(path, layout, labels, dropped)

    def evaluate(
        self,
        runtime: Runtime,
        examples: Sequence[LabelledText],
        *,
        progress: Progress | None = None,
    ) -> ClassifierEvaluation:
        """Measure accuracy and macro F1, or what stands for them with another head."""
        from bert_rt.tasks.text_classification.scoring import evaluate_texts

        return evaluate_texts(runtime, examples, progress=progress)


_USUAL_HEAD = ClassifierHead()
_HEAD_FIELDS = {"problem_type", "function_to_apply"}


def _check_optional_string(where: str, value: object) -> None:
    if value is not None:
        check_string(where, value)


def _check_logits(where: str, value: object) -> None:
    for number in plain_list(where, value, MAX_LABELS):
        check_logit(where, number)


_SELF_TEST_FIELDS = {
    "text": check_string,
    "text_pair": _check_optional_string,
    "logits": _check_logits,
}
