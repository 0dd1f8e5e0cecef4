"""Texts -> answers over one scheduler: check, tokenize, cut into windows, compute, decode.

Work is done in chunks, so that memory stays bounded however many questions there are, and a
question that comes alone never waits for all of somebody's thousands.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from bert_rt.engines.scheduler import Scheduler
from bert_rt.errors import InputError
from bert_rt.model.config import AnsweringConfig
from bert_rt.tasks.question_answering.features import check_question, make_features
from bert_rt.tasks.question_answering.spans import decode
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import (
    Answer,
    Encoding,
    Feature,
    Logits,
    Question,
    SpanLogits,
    TokenSequence,
)

__all__ = [
    "CallOptions",
    "PreparedQuestion",
    "Session",
    "check_pair",
    "pick_answer",
    "placed",
    "take_chunk",
]

ItemT = TypeVar("ItemT")

# A chunk ends with whichever comes first. It makes 20 to 50 batches of the default size: enough to
# sort windows by length with hardly any padding, and no more than some megabytes.
_CHUNK_ITEMS = 512
_CHUNK_CHARS = 2**19

# Contexts stay encoded across calls (many questions on a few passages, asked one by one). Longer
# texts do not, which bounds the cache at about 15 MB.
_CACHE_CONTEXTS = 64
_CACHE_CHARS = 2**15

_FEW_TEXTS = 8


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call asks for beside its texts.

    Attributes:
        config: Windows and spans.
        top_k: Answers wanted of every question, at least 1.
        deadline_s: When to give up, in seconds of time.monotonic.
        cancelled: Give up when this is set.
        max_overlap: Most that two answers of a question may share, as in spans.decode.
        score_temperature: What logits are divided by where scores are made of them; the
            manifest's, for probabilities.
    """

    config: AnsweringConfig
    top_k: int = 1
    deadline_s: float = math.inf
    cancelled: threading.Event | None = None
    max_overlap: float | None = None
    score_temperature: float = 1.0


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


def check_pair(pair: Any, place: str = "") -> Question:
    """Check a question and its context, as the user gave them.

    Args:
        pair: A Question, or a tuple or list of question and context.
        place: Where the pair stands, for messages, such as "pairs[3]".

    Returns:
        Both texts.

    Raises:
        InputError: It is no pair, or a text is of the wrong type, empty, too long or unreadable.
    """
    if isinstance(pair, Question):
        pair = (pair.question, pair.context)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        got = f"{type(pair).__name__} of {len(pair)}" if hasattr(pair, "__len__") else repr(pair)
        raise InputError(f"{place}: got {got}, want (question, context)")
    try:
        check_question(*pair)
    except InputError as error:
        raise placed(error, place) from None
    return Question(*pair)


class Session:
    """Answers questions through a scheduler. Thread-safe.

    Attributes:
        tokenizer: The artifact's tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, scheduler: Scheduler) -> None:
        """Join the two halves of the path.

        Args:
            tokenizer: The artifact's tokenizer.
            scheduler: Runs the artifact's engine.
        """
        self.tokenizer = tokenizer
        self._scheduler = scheduler
        self._cache: OrderedDict[str, Encoding] = OrderedDict()
        self._cache_lock = threading.Lock()
        _SESSIONS.add(self)

    def stream(
        self, pairs: Iterable[Any], options: CallOptions, *, place: str = "pairs[{}]"
    ) -> Iterator[Answer]:
        """Answer any number of questions, chunk by chunk, in order.

        Args:
            pairs: What check_pair takes; pulled from one chunk at a time.
            options: What is asked of every question.
            place: How messages name the pair at an index.

        Yields:
            One answer a pair. Where a pair is bad, or the iterable itself raises, the answers to
            the pairs before it come first.

        Raises:
            InputError: A pair is bad; the message names its place.
            BertRtError: As in compute.
        """
        iterator = enumerate(pairs)
        while True:
            chunk, error = take_chunk(
                iterator, check_pair, lambda pair: len(pair.context), place=place
            )
            prepared = []
            try:
                for (_, question), encodings in zip(chunk, self._encode(chunk), strict=True):
                    prepared.append(self._cut(question, *encodings, options.config))
            except InputError as failure:
                error = placed(failure, place.format(chunk[len(prepared)][0]))
            yield from self.answer(prepared, options)
            if error is not None:
                raise error
            if not chunk:
                return

    def prepare(self, question: Question, config: AnsweringConfig) -> PreparedQuestion:
        """Tokenize one checked question and cut its context into windows.

        Args:
            question: What check_pair returned.
            config: Windows.

        Returns:
            The question, ready for compute.

        Raises:
            InputError: A text has no token, or the context makes too many windows.
        """
        (encodings,) = self._encode([(0, question)])
        return self._cut(question, *encodings, config)

    def answer(
        self, prepared: Sequence[PreparedQuestion], options: CallOptions
    ) -> Iterator[Answer]:
        """Compute questions together and yield their answers in order; raises what compute does."""
        for item, logits in zip(prepared, self.compute(prepared, options), strict=True):
            yield pick_answer(item, logits, options)

    def compute(
        self, prepared: Sequence[PreparedQuestion], options: CallOptions
    ) -> list[list[SpanLogits]]:
        """Run the windows of some questions.

        Args:
            prepared: Questions, computed together.
            options: Deadline and cancellation.

        Returns:
            For every question, the logits of its windows, each of shape (T,).

        Raises:
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: The deadline has passed.
            RequestCancelledError: The caller has cancelled.
            EngineError: The engine failed or is closed.
        """
        features = [feature for item in prepared for feature in item.features]
        results = self.run(features, options)
        logits = iter([result for result in results if isinstance(result, SpanLogits)])
        return [list(islice(logits, len(item.features))) for item in prepared]

    def run(self, sequences: Sequence[TokenSequence], options: CallOptions) -> list[Logits]:
        """Run any sequences of tokens, together with those of other threads.

        Args:
            sequences: What make_features or make_sequence gave; possibly none.
            options: Deadline and cancellation.

        Returns:
            For every sequence SpanLogits with arrays of shape (T,), or ClassLogits of shape (1, C).

        Raises:
            BertRtError: As in compute.
        """
        if not sequences:
            return []
        return self._scheduler.run(
            sequences, deadline_s=options.deadline_s, cancelled=options.cancelled
        )

    def close(self) -> None:
        """Close the scheduler and with it the engine. Calling it twice is harmless."""
        self._scheduler.close()

    def _encode(self, chunk: Sequence[tuple[int, Question]]) -> list[tuple[Encoding, Encoding]]:
        """Tokenize questions and contexts; a context that is known or comes twice only once."""
        contexts: dict[str, Encoding | None] = {item.context: None for _, item in chunk}
        with self._cache_lock:
            for text in contexts.keys() & self._cache.keys():
                self._cache.move_to_end(text)
                contexts[text] = self._cache[text]
        absent = [text for text, encoding in contexts.items() if encoding is None]
        texts = absent + [item.question for _, item in chunk]
        # One by one where there are few: the library starts a pool of threads for a batch.
        if len(texts) <= _FEW_TEXTS:
            encodings = [self.tokenizer.encode(text) for text in texts]
        else:
            encodings = self.tokenizer.encode_batch(texts)
        known = {text: encoding for text, encoding in contexts.items() if encoding is not None}
        known |= zip(absent, encodings, strict=False)
        self._remember(absent[-_CACHE_CONTEXTS:], known)
        questions = encodings[len(absent) :]
        return [
            (question, known[item.context])
            for question, (_, item) in zip(questions, chunk, strict=True)
        ]

    def _remember(self, contexts: Sequence[str], encodings: Mapping[str, Encoding]) -> None:
        with self._cache_lock:
            for text in contexts:
                if len(text) <= _CACHE_CHARS:
                    self._cache[text] = encodings[text]
            while len(self._cache) > _CACHE_CONTEXTS:
                self._cache.popitem(last=False)

    def _cut(
        self, item: Question, question: Encoding, context: Encoding, config: AnsweringConfig
    ) -> PreparedQuestion:
        ids = {
            "cls_id": self.tokenizer.cls_id,
            "sep_id": self.tokenizer.sep_id,
            "num_separators": self.tokenizer.num_separators,
        }
        features = make_features(0, question, context, config=config, **ids)
        return PreparedQuestion(item, context, features)


_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()


def _renew_locks() -> None:
    # In a forked process the thread that held one may be gone.
    for session in list(_SESSIONS):
        session._cache_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def pick_answer(
    prepared: PreparedQuestion, logits: Sequence[SpanLogits], options: CallOptions
) -> Answer:
    """Decode one question.

    Args:
        prepared: The question.
        logits: Of its windows, as Session.compute gave them.
        options: What is asked of it.

    Returns:
        The answer.

    Raises:
        EngineInternalError: As in spans.decode.
    """
    return decode(
        prepared.question.context,
        prepared.context,
        prepared.features,
        [window.start_logits for window in logits],
        [window.end_logits for window in logits],
        config=options.config,
        top_k=options.top_k,
        max_overlap=options.max_overlap,
        score_temperature=options.score_temperature,
    )


def take_chunk(
    items: Iterator[tuple[int, Any]],
    check: Callable[[Any, str], ItemT],
    num_chars: Callable[[ItemT], int],
    *,
    place: str,
) -> tuple[list[tuple[int, ItemT]], Exception | None]:
    """Take numbered items until there is a chunk of work, or until a bad one.

    Args:
        items: What callers gave, with its index.
        check: Checks an item and gets its place for messages.
        num_chars: How long a checked item is.
        place: How messages name the item at an index.

    Returns:
        The checked items with their indices, and the error that belongs behind them, if any.
    """
    chunk: list[tuple[int, ItemT]] = []
    total = 0
    try:
        for index, item in items:
            checked = check(item, place.format(index))
            chunk.append((index, checked))
            total += num_chars(checked)
            if len(chunk) >= _CHUNK_ITEMS or total >= _CHUNK_CHARS:
                break
    except Exception as error:  # The caller's iterable may raise whatever it likes.
        return chunk, error
    return chunk, None


def placed(error: InputError, place: str) -> InputError:
    """Return the same error with the place of the item that it is about in front, unless ""."""
    return type(error)(f"{place}.{error}" if place else str(error))
