"""Question answering as a task: pairs of question and context -> windows -> logits -> Answer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bert_rt.artifact.checks import check_fields, check_int, check_logit, check_string, refuse
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import ArtifactFormatError, InputError
from bert_rt.model.config import BertConfig
from bert_rt.tasks.base import CallOptions, SelfTestItem, Task, limits_of
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.features import (
    check_question,
    check_split_windows,
    make_features,
)
from bert_rt.tasks.question_answering.head_spec import HEAD
from bert_rt.tasks.question_answering.rows import AnswerRows
from bert_rt.tasks.question_answering.spans import decode
from bert_rt.tasks.session import Session
from bert_rt.tasks.texts import with_place
from bert_rt.types import Answer, Encoding, Feature, Outputs, Question

if TYPE_CHECKING:
    from bert_rt.api import Runtime
    from bert_rt.support.faults import Dropped
    from bert_rt.support.progress import Progress
    from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation
    from bert_rt.tasks.question_answering.http import AnswerForm
    from bert_rt.tasks.question_answering.squad import SquadExample

__all__ = ["AnsweringOptions", "PreparedQuestion", "QuestionAnswering"]

_MAX_CHARS = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringOptions(CallOptions):
    """What a call to answer asks for.

    Attributes:
        max_overlap: Most that two answers of a question may share, as in spans.decode.
    """

    max_overlap: float | None = None

    def __post_init__(self) -> None:
        """Check max_overlap.

        Raises:
            InputError: It is out of range.
        """
        overlap = self.max_overlap
        if overlap is None:
            return
        is_number = isinstance(overlap, int | float) and not isinstance(overlap, bool)
        if not is_number or not 0 <= overlap <= 1:
            raise InputError(f"max_overlap: got {overlap!r}, want a number from 0 to 1, or None")


@dataclass(frozen=True, slots=True)
class PreparedQuestion:
    """A question that is ready to be computed.

    Attributes:
        question: The texts as the caller wrote them.
        context: The tokens of all of the context.
        features: The context's windows.
    """

    question: Question
    context: Encoding
    features: list[Feature]

    @property
    def sequences(self) -> list[Feature]:
        """The windows, as what the model reads."""
        return self.features


class QuestionAnswering(Task[Question, PreparedQuestion, Answer]):
    """Answers questions by spans of the caller's own context."""

    name = HEAD.name
    method = "answer"
    noun = "pairs"
    head_spec = HEAD
    limits_class = AnsweringConfig
    data_files = "SQuAD-style or flat JSON, or JSON Lines"
    options_class = AnsweringOptions
    compared = ("text", "start", "end", "start_logit", "end_logit")

    def check_input(self, item: Any, place: str = "") -> Question:
        """Check a question and its context, as the user gave them.

        Args:
            item: A Question, or a tuple or list of question and context.
            place: Where the pair stands, for messages, such as "pairs[3]".

        Returns:
            Both texts.

        Raises:
            InputError: It is no pair, or a text is of the wrong type, empty, too long or
                unreadable.
        """
        pair = (item.question, item.context) if isinstance(item, Question) else item
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = repr(pair)
            if hasattr(pair, "__len__"):
                got = f"{type(pair).__name__} of {len(pair)}"
            raise InputError(f"{place}: got {got}, want (question, context)")
        try:
            check_question(*pair)
        except InputError as error:
            raise with_place(error, place) from None
        return Question(*pair)

    def texts(self, item: Question) -> list[str]:
        """Return question and context."""
        return [item.question, item.context]

    def num_chars(self, item: Question) -> int:
        """Return the length of the context, which is nearly all."""
        return len(item.context)

    def prepare(
        self, items: Sequence[Question], session: Session, options: CallOptions
    ) -> Iterator[PreparedQuestion]:
        """Tokenize questions and cut their contexts into windows.

        Args:
            items: Checked questions; a context that comes twice is tokenized once.
            session: Tokenizes.
            options: limits says how windows are cut.

        Yields:
            The questions, ready to be computed.

        Raises:
            InputError: A text has no token, or a context makes too many windows.
        """
        contexts, questions = session.encode(
            [item.context for item in items], [item.question for item in items]
        )
        tokens = session.tokenizer.pair_tokens
        is_split = session.passage_position_offset > 0
        for item, question, context in zip(items, questions, contexts, strict=True):
            features = make_features(
                0, question, context, config=options.limits, is_split=is_split, **tokens
            )
            yield PreparedQuestion(item, context, features)

    def decode(
        self, prepared: PreparedQuestion, outputs: Sequence[Outputs], options: CallOptions
    ) -> Answer:
        """Find the best admissible spans over all windows.

        Args:
            prepared: The question.
            outputs: start_logits and end_logits of shape (T,) of its windows.
            options: AnsweringOptions, or the options of any task for no max_overlap.

        Returns:
            The answer.

        Raises:
            EngineInternalError: As in spans.decode.
        """
        return decode(
            prepared.question.context,
            prepared.context,
            prepared.features,
            [window["start_logits"] for window in outputs],
            [window["end_logits"] for window in outputs],
            config=options.limits,
            top_k=options.top_k,
            max_overlap=getattr(options, "max_overlap", None),
            score_temperature=options.score_temperature,
        )

    def read_limits(self, manifest: Manifest) -> AnsweringConfig:
        """Return how passages are cut into windows and answers are picked."""
        return limits_of(manifest, AnsweringConfig)

    def check_limits(self, limits: Any, architecture: BertConfig) -> None:
        """Refuse windows that a model with split layers cannot read."""
        check_split_windows(limits, architecture)

    def check_outputs(self, outputs: Outputs, manifest: Manifest) -> None:
        """Refuse what is not one number a token."""
        for name in self.outputs:
            if outputs[name].ndim != 1:
                raise ArtifactFormatError(
                    f"{manifest.model.file}: got {name} of shape {outputs[name].shape} for a "
                    "sequence, want one number a token"
                )

    def check_self_test(self, where: str, item: SelfTestItem, manifest: Manifest) -> None:
        """Refuse what is not a question with the span that answers it, and its logits."""
        del manifest
        check_fields(where, item, _SELF_TEST_FIELDS)
        start, end, context = item["start"], item["end"], item["context"]
        if not start <= end <= len(context) or context[start:end] != item["text"]:
            refuse(where, (start, end), "the span of text in context")

    def self_test_input(self, item: SelfTestItem) -> Question:
        """Return the question."""
        return self.check_input((item["question"], item["context"]), "self_test")

    def self_test_result(
        self, prepared: PreparedQuestion, outputs: Sequence[Outputs], options: CallOptions
    ) -> SelfTestItem:
        """Return the answer with its logits, and "lead", the score above the next span's."""
        answer = self.decode(prepared, outputs, dataclasses.replace(options, top_k=2))
        start_logit, end_logit = _logits_of(answer, prepared, outputs)
        runner_up = max((other.logit for other in answer.alternatives), default=-math.inf)
        return {
            "question": prepared.question.question,
            "context": prepared.question.context,
            "text": answer.text,
            "start": answer.start,
            "end": answer.end,
            "start_logit": start_logit,
            "end_logit": end_logit,
            "lead": answer.logit - runner_up,
        }

    def http(self) -> AnswerForm:
        """Return the fields question and context, and answers with their spans."""
        from bert_rt.tasks.question_answering.http import AnswerForm

        return AnswerForm()

    def rows(self) -> AnswerRows:
        """Return the form of columns of questions and contexts, and answers."""
        return AnswerRows()

    def read_examples(
        self,
        path: str | Path,
        layout: Any,
        labels: Sequence[str],
        head: Any = None,
        *,
        dropped: Dropped | None = None,
    ) -> list[SquadExample]:
        """Read a file in SQuAD's form; layout, labels and head are not used."""
        del layout, labels, head
        from bert_rt.tasks.question_answering.squad import read_squad

        return read_squad(path, dropped=dropped)

    def evaluate(
        self,
        runtime: Runtime,
        examples: Sequence[SquadExample],
        *,
        progress: Progress | None = None,
    ) -> AnswerEvaluation:
        """Measure exact match and F1."""
        from bert_rt.tasks.question_answering.evaluation import evaluate

        return evaluate(runtime, examples, progress=progress)


def _check_offset(where: str, value: object) -> None:
    check_int(where, value, 0, _MAX_CHARS)


_SELF_TEST_FIELDS = {
    "question": check_string,
    "context": check_string,
    "text": check_string,
    "start": _check_offset,
    "end": _check_offset,
    "start_logit": check_logit,
    "end_logit": check_logit,
}


def _logits_of(
    answer: Answer, prepared: PreparedQuestion, outputs: Sequence[Outputs]
) -> tuple[float, float]:
    """Return the start and the end logit that the answer's score is the sum of."""
    pairs = [(window["start_logits"], window["end_logits"]) for window in outputs]
    if not answer.text:
        # "No answer": the [CLS] token of the window where it scores least.
        return min(((float(starts[0]), float(ends[0])) for starts, ends in pairs), key=sum)
    offsets = prepared.context.offsets
    first = int(np.searchsorted(offsets[:, 0], answer.start))
    # An answer may end behind its last token (combining marks), never before it.
    last = int(np.searchsorted(offsets[:, 1], answer.end, side="right")) - 1
    for feature, (starts, ends) in zip(prepared.features, pairs, strict=True):
        position = first - feature.context_start
        if 0 <= position < feature.context_length and feature.is_max_context[position]:
            row = feature.context_offset + position
            return float(starts[row]), float(ends[row + last - first])
    raise AssertionError("every context token is is_max_context in one window")
