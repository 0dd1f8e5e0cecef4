"""How well and how fast a Runtime answers a set of questions, or classifies a set of texts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.labelled import LabelledText, class_indices
from bert_rt.metrics import macro_f1
from bert_rt.no_answer import always_answering, score_answers
from bert_rt.progress import Progress
from bert_rt.squad import SquadExample

__all__ = ["ClassEvaluation", "Evaluation", "evaluate", "evaluate_classes"]


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
        no_answer: Where questions have no answer, the official figures of SQuAD v2.0 beside exact
            match and F1, as in bert_rt.no_answer.ScoredAnswers; else empty.
    """

    exact_match: float
    f1: float
    total: int
    questions_per_second: float
    predictions: Mapping[str, str]
    exact_N: NDArray[np.float64]
    f1_N: NDArray[np.float64]
    no_answer: Mapping[str, float] = field(default_factory=dict)


def evaluate(
    runtime: Runtime, examples: Sequence[SquadExample], *, progress: Progress | None = None
) -> Evaluation:
    """Answer all questions and score the answers with the official metrics.

    Args:
        runtime: What answers.
        examples: At least one question, those of a context next to each other so that it is
            tokenized once.
        progress: Is told of every question.

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
    answers = []
    start_s = time.perf_counter()
    pairs = ((example.question, example.context) for example in examples)
    for answer in runtime.session.stream(pairs, options):
        answers.append(answer)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    scored = score_answers(examples, answers, runtime.limits)
    return Evaluation(
        exact_match=scored.scores.exact_match,
        f1=scored.scores.f1,
        total=scored.scores.total,
        questions_per_second=len(examples) / seconds,
        predictions=scored.predictions,
        exact_N=scored.scores.exact_matches,
        f1_N=scored.scores.f1s,
        no_answer=scored.no_answer,
    )


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
    """

    accuracy: float
    macro_f1: float
    total: int
    texts_per_second: float
    predicted_Q: NDArray[np.int64]
    correct_Q: NDArray[np.float64]


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
    predicted = []
    start_s = time.perf_counter()
    for result in runtime.classifier.stream((example.input for example in examples), options):
        predicted.append(result.index)
        if progress is not None:
            progress.advance()
    seconds = time.perf_counter() - start_s
    predicted_Q = np.array(predicted, np.int64)
    correct_Q = (predicted_Q == gold_Q).astype(np.float64)
    return ClassEvaluation(
        accuracy=float(100 * correct_Q.mean()),
        macro_f1=macro_f1(predicted_Q, gold_Q),
        total=len(examples),
        texts_per_second=len(examples) / seconds,
        predicted_Q=predicted_Q,
        correct_Q=correct_Q,
    )
