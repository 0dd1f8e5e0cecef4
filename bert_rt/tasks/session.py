"""Inputs -> results over one scheduler: check, tokenize, compute, decode, for every task.

Work is done in chunks, so that memory stays bounded however many inputs there are, and an input
that comes alone never waits for all of somebody's thousands.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, TypeVar

from bert_rt.engines.watching import WatchedEngine
from bert_rt.errors import InputError
from bert_rt.scheduling.scheduler import QueueStats, Request, Scheduler
from bert_rt.tasks.base import CallOptions, Prepared, Task
from bert_rt.tasks.driver import Driver
from bert_rt.tasks.texts import with_place
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, Outputs, TokenSequence

__all__ = ["Session"]

ItemT = TypeVar("ItemT")
PreparedT = TypeVar("PreparedT", bound=Prepared)
ResultT = TypeVar("ResultT")

# A chunk ends with whichever comes first. It makes 20 to 50 batches of the default size: enough to
# sort windows by length with hardly any padding, and no more than some megabytes.
_CHUNK_ITEMS = 512
_CHUNK_CHARS = 2**19

# Texts stay encoded across calls (many questions on a few passages, asked one by one). Longer ones
# do not, which bounds the cache at about 15 MB.
_CACHE_TEXTS = 64
_CACHE_CHARS = 2**15

_FEW_TEXTS = 8


class Session:
    """Runs inputs of a task through a scheduler. Thread-safe.

    Attributes:
        tokenizer: The artifact's tokenizer.
        target_tokenizer: That of the texts that the model writes; else the same one.
        num_token_types: How many the model has (BertConfig.num_token_types).
        passage_position_offset: That of the model (BertConfig.passage_position_offset); not 0 where
            it has split layers.
        engine: What the scheduler runs, where it is watched: batches are measured there.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        scheduler: Scheduler,
        *,
        num_token_types: int = 2,
        passage_position_offset: int = 0,
        engine: WatchedEngine | None = None,
        target_tokenizer: Tokenizer | None = None,
    ) -> None:
        """Join the two halves of the path.

        Args:
            tokenizer: The artifact's tokenizer.
            scheduler: Runs the artifact's engine.
            num_token_types: How many the model has.
            passage_position_offset: That of the model.
            engine: The scheduler's engine, where it is watched.
            target_tokenizer: That of the texts that the model writes; None for the same one.
        """
        self.engine = engine
        self.tokenizer = tokenizer
        self.target_tokenizer = target_tokenizer or tokenizer
        self.num_token_types = num_token_types
        self.passage_position_offset = passage_position_offset
        self._scheduler = scheduler
        self._cache: OrderedDict[str, Encoding] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._driver = Driver(self, scheduler)
        _SESSIONS.add(self)

    @property
    def stats(self) -> QueueStats:
        """How much waits at this moment, how long it is likely to take, and what was done."""
        return self._scheduler.stats

    def submit(
        self, task: Task[ItemT, PreparedT, ResultT], item: ItemT, options: CallOptions
    ) -> Future[ResultT]:
        """Compute one checked input without a thread that waits for it.

        Args:
            task: What it is for.
            item: What task.check_input returned.
            options: What is asked of it.

        Returns:
            A future of the result. Cancelling it drops the request. Its errors are those of
            stream; a cancelled options.cancelled cancels it.

        Raises:
            OverloadedError: Too much is waiting already, or the deadline is too near for it.
        """
        return self._driver.submit(task, item, options)

    def stream(
        self,
        task: Task[ItemT, PreparedT, ResultT],
        items: Iterable[Any],
        options: CallOptions,
        *,
        place: str | None = None,
    ) -> Iterator[ResultT]:
        """Compute any number of inputs, chunk by chunk, in order.

        Args:
            task: What they are for.
            items: What task.check_input takes; pulled from one chunk at a time.
            options: What is asked of every input.
            place: How messages name the input at an index; None for the task's noun.

        Yields:
            One result an input. Where an input is bad, or the iterable itself raises, the results
            of those before it come first.

        Raises:
            InputError: An input is bad; the message names its place.
            BertRtError: As in compute.
        """
        place = f"{task.noun}[{{}}]" if place is None else place
        iterator = enumerate(items)
        while True:
            chunk, error = _take_chunk(iterator, task.check_input, task.num_chars, place=place)
            if chunk:
                # Before tokenizing: what is refused shall cost nothing.
                estimate = sum(task.estimate_tokens(item) for _, item in chunk)
                request = self._scheduler.admit(estimate, options.asked)
                prepared: list[PreparedT] = []
                try:
                    prepared.extend(task.prepare([item for _, item in chunk], self, options))
                except InputError as failure:
                    error = with_place(failure, place.format(chunk[len(prepared)][0]))
                except BaseException:
                    self._scheduler.drop(request)
                    raise
                results = self.compute(prepared, options, request=request)
                for item, outputs in zip(prepared, results, strict=True):
                    yield task.decode(item, outputs, options)
            if error is not None:
                raise error
            if not chunk:
                return

    def compute(
        self,
        prepared: Sequence[Prepared],
        options: CallOptions,
        *,
        request: Request | None = None,
    ) -> list[list[Outputs]]:
        """Run the sequences of some inputs together.

        Args:
            prepared: What a task's prepare gave.
            options: Deadline and cancellation.
            request: As in Scheduler.run.

        Returns:
            For every input the outputs of its sequences.

        Raises:
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: The deadline has passed.
            RequestCancelledError: The caller has cancelled.
            EngineError: The engine failed or is closed.
        """
        sequences = [sequence for item in prepared for sequence in item.sequences]
        outputs = iter(self.run(sequences, options, request=request))
        return [list(islice(outputs, len(item.sequences))) for item in prepared]

    def run(
        self,
        sequences: Sequence[TokenSequence],
        options: CallOptions,
        *,
        request: Request | None = None,
    ) -> list[Outputs]:
        """Run any sequences of tokens, together with those of other threads.

        Args:
            sequences: Possibly none.
            options: Deadline and cancellation.
            request: As in Scheduler.run.

        Returns:
            For every sequence its outputs by name: of shape (T, ...) per token, else (...).

        Raises:
            BertRtError: As in compute.
        """
        if sequences:
            return self._scheduler.run(sequences, options.asked, request=request)
        if request is not None:
            self._scheduler.drop(request)
        return []

    def encode(
        self, kept: Sequence[str], others: Sequence[str]
    ) -> tuple[list[Encoding], list[Encoding]]:
        """Tokenize checked texts together.

        Args:
            kept: Texts that are likely to come again, in this call or a later one: each is
                tokenized once and stays in a cache.
            others: Texts that are not.

        Returns:
            The encodings of both, in order.
        """
        known: dict[str, Encoding | None] = dict.fromkeys(kept)
        with self._cache_lock:
            for text in known.keys() & self._cache.keys():
                self._cache.move_to_end(text)
                known[text] = self._cache[text]
        absent = [text for text, encoding in known.items() if encoding is None]
        texts = [*absent, *others]
        # One by one where there are few: the library starts a pool of threads for a batch.
        if len(texts) <= _FEW_TEXTS:
            encodings = [self.tokenizer.encode(text) for text in texts]
        else:
            encodings = self.tokenizer.encode_batch(texts)
        found = {text: encoding for text, encoding in known.items() if encoding is not None}
        found |= zip(absent, encodings, strict=False)
        self._remember(absent[-_CACHE_TEXTS:], found)
        return [found[text] for text in kept], encodings[len(absent) :]

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuse new requests from now on and wait for those that were admitted.

        Args:
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            Whether all are done.
        """
        return self._scheduler.drain(timeout_s)

    def close(self) -> None:
        """Close the scheduler and with it the engine. Calling it twice is harmless."""
        self._scheduler.close()
        self._driver.close()

    def _remember(self, texts: Sequence[str], encodings: Mapping[str, Encoding]) -> None:
        with self._cache_lock:
            for text in texts:
                if len(text) <= _CACHE_CHARS:
                    self._cache[text] = encodings[text]
            while len(self._cache) > _CACHE_TEXTS:
                self._cache.popitem(last=False)


_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()


def _reset_all() -> None:
    # In a forked process the threads that held a lock, or computed, are gone.
    for session in _SESSIONS:
        session._cache_lock = threading.Lock()
        session._driver.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)


def _take_chunk(
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
