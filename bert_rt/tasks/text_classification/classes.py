"""Texts -> classes over one session: check, tokenize, compute, softmax.

A text longer than the artifact's max_seq_length is cut off there, as BERT's run_classifier.py does
and as such models were trained: its end is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bert_rt.errors import EngineInternalError, InputError
from bert_rt.tasks.question_answering.answering import CallOptions, Session, placed, take_chunk
from bert_rt.tasks.question_answering.features import MAX_CONTEXT_CHARS, check_text, make_sequences
from bert_rt.types import Classification, ClassLogits, FloatArray, TextInput, TokenSequence

__all__ = ["Classifier", "check_input", "rank_classes"]


def check_input(item: Any, place: str = "") -> TextInput:
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
            check_text(field, text, max_chars=MAX_CONTEXT_CHARS)
    except InputError as error:
        raise placed(error, place) from None
    return TextInput(*texts)


def rank_classes(
    logits_C: FloatArray,
    labels: Sequence[str],
    *,
    top_k: int = 1,
    score_temperature: float = 1.0,
) -> Classification:
    """Find the best classes of one text.

    Args:
        logits_C: Shape (C,), float32.
        labels: Names of the C classes.
        top_k: Classes wanted; those after the best are its alternatives.
        score_temperature: What logits are divided by before the softmax, above 0. It changes no
            rank.

    Returns:
        The class of the greatest logit; of equal ones the first.
    """
    logits = logits_C.astype(np.float64)
    weights = np.exp((logits - logits.max()) / score_temperature)
    scores = weights / weights.sum()
    every = tuple(logits.tolist())
    best, *others = (
        Classification(labels[index], float(scores[index]), index, every[index], every)
        for index in np.argsort(-logits, kind="stable")[:top_k].tolist()
    )
    return Classification(
        best.label, best.score, best.index, best.logit, every, alternatives=tuple(others)
    )


class Classifier:
    """Classifies texts through a session. Thread-safe, and without state of its own."""

    def __init__(self, session: Session, labels: Sequence[str]) -> None:
        """Take a session on an artifact for text classification.

        Args:
            session: Tokenizes and computes.
            labels: The artifact's class names, in the order of the logits.
        """
        self._session = session
        self._labels = tuple(labels)

    def stream(
        self, texts: Iterable[Any], options: CallOptions, *, place: str = "texts[{}]"
    ) -> Iterator[Classification]:
        """Classify any number of texts, chunk by chunk, in order.

        Args:
            texts: What check_input takes; pulled from one chunk at a time.
            options: What is asked of every text.
            place: How messages name the text at an index.

        Yields:
            One classification a text. Where a text is bad, or the iterable itself raises, those
            before it come first.

        Raises:
            InputError: A text is bad; the message names its place.
            BertRtError: As in Session.compute.
        """
        iterator = enumerate(texts)
        while True:
            chunk, error = take_chunk(
                iterator,
                check_input,
                lambda item: len(item.text) + len(item.text_pair or ""),
                place=place,
            )
            sequences: list[TokenSequence] = []
            try:
                sequences.extend(
                    make_sequences(
                        [item for _, item in chunk],
                        self._session.tokenizer,
                        max_seq_length=options.config.max_seq_length,
                        num_token_types=self._session.num_token_types,
                    )
                )
            except InputError as failure:
                error = placed(failure, place.format(chunk[len(sequences)][0]))
            for logits_C in self.compute(sequences, options):
                yield rank_classes(
                    logits_C,
                    self._labels,
                    top_k=options.top_k,
                    score_temperature=options.score_temperature,
                )
            if error is not None:
                raise error
            if not chunk:
                return

    def compute(self, sequences: Sequence[TokenSequence], options: CallOptions) -> list[FloatArray]:
        """Run sequences.

        Args:
            sequences: What make_sequence gave.
            options: Deadline and cancellation.

        Returns:
            For every sequence its logits, shape (C,), float32.

        Raises:
            EngineInternalError: The model has another number of classes than the artifact.
            BertRtError: As in Session.compute.
        """
        results = self._session.run(sequences, options)
        logits = [result.logits[0] for result in results if isinstance(result, ClassLogits)]
        for logits_C in logits[:1]:
            if len(logits_C) != len(self._labels):
                raise EngineInternalError(
                    f"logits: got {len(logits_C)} of a text, want {len(self._labels)}, one for "
                    "each of the artifact's labels"
                )
        return logits
