"""How well and how fast a Runtime answers a set of questions, or classifies a set of texts.

Shapes: N questions, Q texts, C classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.support.progress import Progress
from bert_rt.tasks.question_answering.answering import (
    CallOptions,
    PreparedQuestion,
    check_pair,
    pick_answer,
    placed,
)
from bert_rt.tasks.question_answering.metrics import macro_f1
from bert_rt.tasks.question_answering.no_answer import always_answering, score_answers
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.tasks.text_classification.labelled import LabelledText, class_indices
from bert_rt.types import Answer, SpanLogits

__all__ = ["ClassEvaluation", "Evaluation", "evaluate", "evaluate_classes", "stream_logits"]

# Enough for full batches with windows of like lengths, and few enough to keep their logits.
_CHUNK_QUESTIONS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
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


def evaluate(
    runtime: Runtime,
    examples: Sequence[SquadExample],
    *,
    progress: Progress | None = None,
    raw_scores: bool = False,
) -> Evaluation:
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
    options = replace(runtime.options(), config=always_answering(runtime.limits))
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
    return Evaluation(
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
) -> Iterator[tuple[PreparedQuestion, list[SpanLogits]]]:
    """Compute questions without picking answers.

    Args:
        runtime: What computes.
        examples: Questions, those of a context next to each other.

    Yields:
        Every question and the logits of its windows, for answering.pick_answer.

    Raises:
        InputError: A question cannot be answered; the message names its place.
        EngineError: The engine failed.
    """
    session, options = runtime.session, runtime.options()
    for begin in range(0, len(examples), _CHUNK_QUESTIONS):
        prepared = []
        for index, example in enumerate(examples[begin : begin + _CHUNK_QUESTIONS], start=begin):
            pair = (example.question, example.context)
            try:
                question = check_pair(pair)
                prepared.append(session.prepare(question, options.config))
            except InputError as error:
                raise _at(example, index, error) from None
        yield from zip(prepared, session.compute(prepared, options), strict=True)


def _answers(
    runtime: Runtime, examples: Sequence[SquadExample], options: CallOptions, raw_scores: bool
) -> Iterator[tuple[Answer, Answer]]:
    """Yield every answer, and the same with a temperature of 1 where that is wanted."""
    if raw_scores:
        raw = replace(options, score_temperature=1.0)
        for item in stream_logits(runtime, examples):
            yield pick_answer(*item, options), pick_answer(*item, raw)
        return
    pairs = ((example.question, example.context) for example in examples)
    answers = runtime.session.stream(pairs, options, place="")
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
    return placed(error, f"pairs[{index}]")


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


@dataclass(frozen=True, slots=True, eq=False)
class ClassEvaluation:
    """What a Runtime made of labelled texts; Q texts in the examples' order.

    Attributes:
        accuracy: Share of the texts given their right class, in percent.
        macro_f1: Mean of the classes' F1, in percent.
        total: Number of texts, Q.
        texts_per_second: From texts to classes, tokenization included.
        predicted_Q: Shape (Q,), int64, the class that was given.
        correct_Q: Shape (Q,), float64, each 0 or 1.
        score_Q: Shape (Q,), float64, the scores of the classes that were given.
        raw_score_Q: Shape (Q,), float64, what they were with a score_temperature of 1.
        score_temperature: The artifact's.
    """

    accuracy: float
    macro_f1: float
    total: int
    texts_per_second: float
    predicted_Q: NDArray[np.int64]
    correct_Q: NDArray[np.float64]
    score_Q: NDArray[np.float64]
    raw_score_Q: NDArray[np.float64]
    score_temperature: float


def evaluate_classes(
    runtime: Runtime, examples: Sequence[LabelledText], *, progress: Progress | None = None
) -> ClassEvaluation:
    """Classify all texts and count the right ones.

    Args:
        runtime: What classifies.
        examples: At least one text.
        progress: Is told of every text.

    Returns:
        Scores, classes and speed.

    Raises:
        InputError: There are no examples, a text cannot be classified, or a label is none of the
            artifact's.
        EngineError: The engine failed.
    """
    if not examples:
        raise InputError("examples: got 0 texts, want at least 1")
    options = runtime.options(task="text-classification")
    gold_Q = np.array(class_indices(examples, runtime.manifest.labels), np.int64)
    results = []
    start_s = time.perf_counter()
    for result in runtime.classifier.stream((example.input for example in examples), options):
        results.append(result)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    predicted_Q = np.array([result.index for result in results], np.int64)
    logits_QC = np.array([result.logits for result in results])
    correct_Q = (predicted_Q == gold_Q).astype(np.float64)
    return ClassEvaluation(
        accuracy=float(100 * correct_Q.mean()),
        macro_f1=macro_f1(predicted_Q, gold_Q),
        total=len(examples),
        texts_per_second=len(examples) / seconds,
        predicted_Q=predicted_Q,
        correct_Q=correct_Q,
        score_Q=np.array([result.score for result in results]),
        raw_score_Q=1 / np.exp(logits_QC - logits_QC.max(axis=1, keepdims=True)).sum(axis=1),
        score_temperature=options.score_temperature,
    )
