"""How well and how fast a Runtime answers a set of questions.

Shapes: N questions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bert_rt.errors import InputError
from bert_rt.support.progress import Progress
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.metrics import reliability
from bert_rt.tasks.question_answering.answering import PreparedQuestion, QuestionAnswering
from bert_rt.tasks.question_answering.no_answer import always_answering, score_answers
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.tasks.texts import with_place
from bert_rt.types import Answer, Outputs, Question

if TYPE_CHECKING:
    from bert_rt.api import Runtime

__all__ = ["AnswerEvaluation", "evaluate", "stream_logits"]

_TASK = QuestionAnswering()
# Enough for full batches with windows of like lengths, and few enough to keep their logits.
_CHUNK_QUESTIONS = 256


@dataclass(frozen=True, slots=True, eq=False)
class AnswerEvaluation:
    """What a Runtime answered and how it scored; N questions in the examples' order.

    Attributes:
        exact_match: Mean exact match in percent.
        f1: Mean F1 in percent.
        total: Number of questions, N.
        questions_per_second: From texts to answers, tokenization included.
        predictions: Answer text by question id; "" for no answer.
        exact_N: Shape (N,), float64, each 0 or 1.
        f1_N: Shape (N,), float64, each in [0, 1].
        score_N: Shape (N,), float64, the answers' scores.
        raw_score_N: Shape (N,), float64, what their scores were with a score_temperature of 1; None
            where nobody asked.
        score_temperature: The artifact's.
        no_answer: Where questions have no answer, the official figures of SQuAD v2.0 beside exact
            match and F1, as in no_answer.ScoredAnswers; else empty.
    """

    exact_match: float
    f1: float
    total: int
    questions_per_second: float
    predictions: Mapping[str | int, str]
    exact_N: NDArray[np.float64]
    f1_N: NDArray[np.float64]
    score_N: NDArray[np.float64]
    raw_score_N: NDArray[np.float64] | None
    score_temperature: float
    no_answer: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """F1, on which gates look first, and exact match."""
        return {"f1": self.f1, "exact_match": self.exact_match}

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the scores."""
        return reliability(self.score_N, self.exact_N).expected_calibration_error

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, for JSON."""
        return {
            "exact_match": self.exact_match,
            "f1": self.f1,
            "total": self.total,
            "expected_calibration_error": self.calibration_error,
            **self.no_answer,
            "questions_per_second": self.questions_per_second,
        }

    def describe(self) -> str:
        """Return the figures as lines of text."""
        return (
            f"exact match {self.exact_match:.2f}, F1 {self.f1:.2f} over {self.total} questions\n"
            f"expected calibration error of the scores {self.calibration_error:.4f}\n"
            f"{_no_answer_lines(self.no_answer)}"
            f"{self.questions_per_second:.1f} questions/s, text to answer,"
        )


def evaluate(
    runtime: Runtime,
    examples: Sequence[SquadExample],
    *,
    progress: Progress | None = None,
    raw_scores: bool = False,
) -> AnswerEvaluation:
    """Answer all questions and score the answers with the official metrics.

    Args:
        runtime: What answers.
        examples: At least one question, those of a context next to each other so that it is
            tokenized once.
        progress: Is told of every question.
        raw_scores: Whether raw_score_N is wanted, too; then questions_per_second is lower.

    Returns:
        Scores, answers and speed.

    Raises:
        InputError: There are no examples, or one cannot be answered (an empty question, say).
        EngineError: The engine failed.
    """
    if not examples:
        raise InputError("examples: got 0 questions, want at least 1")
    # Always a span: with it and the margin, any threshold can be judged.
    options = replace(runtime.options(_TASK), limits=always_answering(runtime.limits))
    answers, raw = [], []
    start_s = time.perf_counter()
    for answer, raw_answer in _answers(runtime, examples, options, raw_scores):
        answers.append(answer)
        raw.append(raw_answer)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    scored = score_answers(examples, answers, runtime.limits)
    given = [scored.predictions[example.id] for example in examples]
    return AnswerEvaluation(
        exact_match=scored.scores.exact_match,
        f1=scored.scores.f1,
        total=scored.scores.total,
        questions_per_second=len(examples) / seconds,
        predictions=scored.predictions,
        exact_N=scored.scores.exact_matches,
        f1_N=scored.scores.f1s,
        score_N=_scores(answers, given, options.score_temperature),
        raw_score_N=_scores(raw, given, 1.0) if raw_scores else None,
        score_temperature=options.score_temperature,
        no_answer=scored.no_answer,
    )


def stream_logits(
    runtime: Runtime, examples: Sequence[SquadExample]
) -> Iterator[tuple[PreparedQuestion, list[Outputs]]]:
    """Compute questions without picking answers.

    Args:
        runtime: What computes.
        examples: Questions, those of a context next to each other.

    Yields:
        Every question and the logits of its windows, for QuestionAnswering.decode.

    Raises:
        InputError: A question cannot be answered; the message names its place.
        EngineError: The engine failed.
    """
    session, options = runtime.session, runtime.options(_TASK)
    for begin in range(0, len(examples), _CHUNK_QUESTIONS):
        chunk = examples[begin : begin + _CHUNK_QUESTIONS]
        questions: list[Question] = []
        prepared: list[PreparedQuestion] = []
        try:
            questions.extend(_TASK.check_input((one.question, one.context)) for one in chunk)
            prepared.extend(_TASK.prepare(questions, session, options))
        except InputError as error:
            done = len(prepared) if len(questions) == len(chunk) else len(questions)
            raise _at(chunk[done], begin + done, error) from None
        yield from zip(prepared, session.compute(prepared, options), strict=True)


def _answers(
    runtime: Runtime, examples: Sequence[SquadExample], options: CallOptions, raw_scores: bool
) -> Iterator[tuple[Answer, Answer]]:
    """Yield every answer, and the same with a temperature of 1 where that is wanted."""
    if raw_scores:
        raw = replace(options, score_temperature=1.0)
        for item in stream_logits(runtime, examples):
            yield _TASK.decode(*item, options), _TASK.decode(*item, raw)
        return
    pairs = ((example.question, example.context) for example in examples)
    answers = runtime.session.stream(_TASK, pairs, options, place="")
    for index, example in enumerate(examples):
        try:
            answer = next(answers)
        except InputError as error:
            # What came before the bad question has been answered.
            raise _at(example, index, error) from None
        yield answer, answer


def _at(example: SquadExample, index: int, error: InputError) -> InputError:
    """Return the same error with its question in front."""
    if example.place:
        return type(error)(f"{example.place}: {error}")
    return with_place(error, f"pairs[{index}]")


def _scores(
    answers: Sequence[Answer], given: Sequence[str], temperature: float
) -> NDArray[np.float64]:
    """Return the scores of what was given: the answers' own, or where it is "" that of "no answer".

    Args:
        answers: Spans, N of them.
        given: N texts.
        temperature: What the answers' scores were made with.

    Returns:
        Shape (N,), in [0, 1].
    """
    scores = []
    for answer, text in zip(answers, given, strict=True):
        score = answer.score
        if not text and answer.text:
            # Both are shares of one softmax; where the span's underflows, nothing else is left.
            margin = (answer.null_score - answer.logit) / temperature
            score = math.exp(min(0.0, math.log(score) + margin)) if score else 1.0
        scores.append(score)
    return np.array(scores)


def _no_answer_lines(figures: Mapping[str, float]) -> str:
    """Return the official figures of a file in which questions have no answer, a line each."""
    if not figures:
        return ""
    kinds = [
        f"{name}: exact match {figures[f'{name}_exact']:.2f}, F1 {figures[f'{name}_f1']:.2f} over "
        f"{figures[f'{name}_total']} questions\n"
        for name in ("HasAns", "NoAns")
        if figures[f"{name}_total"]
    ]
    return "".join(kinds) + (
        f"best F1 {figures['best_f1']:.2f} with null_score_diff_threshold "
        f"{figures['best_f1_thresh']:.3f}\n"
    )
