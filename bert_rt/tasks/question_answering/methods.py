"""The methods of Runtime that answer questions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bert_rt import __version__
from bert_rt.artifact.artifact import TOKENIZER_NAME
from bert_rt.engines.base import KeepingEngine
from bert_rt.errors import ConfigError, InputError
from bert_rt.tasks.asking import Asking
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.features import passage_parts
from bert_rt.tasks.reuse.prepared import (
    CHUNK_CONTEXTS,
    CHUNK_WINDOWS,
    pieces,
    prepare_with_file,
)
from bert_rt.tasks.texts import MAX_TEXT_CHARS, check_text, with_place
from bert_rt.types import Answer, IntArray, PreparedContexts, Question

__all__ = ["AnswerMethods"]

_TASK = QuestionAnswering()


class AnswerMethods(Asking):
    """Answers questions over passages, where the artifact was made for that."""

    def answer(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        max_overlap: float | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Answer one question over one passage.

        Args:
            question: The question.
            context: The passage, of any length up to ten million characters.
            top_k: Answers wanted; those after the best are its alternatives.
            max_overlap: Most of the shorter one's characters, from 0 (none) to 1, that two of the
                answers may share; None for no such rule. There may then be fewer than top_k.
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            The best answer, with context[answer.start:answer.end] == answer.text.

        Raises:
            InputError: A text is empty, too long or unreadable, or a value is out of range.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: timeout_s has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        options = self.options(_TASK, top_k=top_k, timeout_s=timeout_s, max_overlap=max_overlap)
        answer: Answer = self.ask((question, context), options)
        return answer

    def answer_batch(
        self,
        pairs: Iterable[Question | tuple[str, str]],
        *,
        top_k: int = 1,
        max_overlap: float | None = None,
        timeout_s: float | None = None,
    ) -> list[Answer]:
        """Answer many questions, computed together; all are checked before any is computed.

        Args:
            pairs: (question, context) pairs.
            top_k: As in answer.
            max_overlap: As in answer.
            timeout_s: Seconds to wait for all of them.

        Returns:
            One answer a pair, in order: what answer returns.

        Raises:
            BertRtError: As in answer; the message of an InputError names the pair.
        """
        options = self.options(_TASK, top_k=top_k, timeout_s=timeout_s, max_overlap=max_overlap)
        return self.ask_batch(pairs, options)

    def stream(
        self,
        pairs: Iterable[Question | tuple[str, str]],
        *,
        top_k: int = 1,
        max_overlap: float | None = None,
    ) -> Iterator[Answer]:
        """Answer any number of pairs in order and bounded memory; a bad one raises at its place."""
        return self.ask_stream(pairs, self.options(_TASK, top_k=top_k, max_overlap=max_overlap))

    def prepare(self, contexts: str | Iterable[str]) -> None:
        """Compute ahead what does not depend on the question, for an artifact with split layers.

        It is kept for the questions to come, in max_context_cache_mb megabytes, those passages
        longest that were used last. Answers are the same without it, and later.

        Args:
            contexts: A passage, or several, as answer takes them.

        Raises:
            ConfigError: The artifact has no split layers, or the engine keeps no passages.
            InputError: A passage is empty, too long or unreadable.
            EngineError: The engine failed, or the Runtime is closed.
        """
        engine = self._keeping()
        for chunk in pieces(_checked(contexts), CHUNK_CONTEXTS):
            for parts in self._cut(chunk):
                for some in pieces(parts, CHUNK_WINDOWS):
                    engine.prepare(some)

    def prepared(
        self, contexts: str | Iterable[str], path: str | os.PathLike[str]
    ) -> PreparedContexts:
        """Do as prepare does, with a file that keeps it for the next process.

        What the file holds of the passages is read, the rest computed; where that is anything, the
        file is written anew with all of these passages, whole or not at all. It counts for this
        artifact, these limits and exactly these texts only. A damaged one is an error in the log,
        and what it held is computed. It has 4 bytes a token and channel, 0.23 MB for 150 tokens
        with a hidden size of 384. Trust a file as you trust an artifact.

        Args:
            contexts: A passage, or several, as answer takes them, the most important first: those
                beyond max_context_cache_mb are left out, and said in the log.
            path: The file, which need not be there.

        Returns:
            How many there were, and how many were in the file.

        Raises:
            ConfigError: As in prepare, or max_context_cache_mb has no room for the first passage.
            InputError: As in prepare, like EngineError.
            OSError: The file cannot be read or written.
        """
        engine = self._keeping()
        places: dict[str, str] = {}
        for place, context in _checked(contexts):
            places.setdefault(context, place)
        files, limits = self.manifest.files, self.limits
        made_for = {
            "bert_rt": __version__,
            "model_sha256": files[self.manifest.model.file].sha256,
            "tokenizer_sha256": files[TOKENIZER_NAME].sha256,
            "hidden_size": self.manifest.architecture.hidden_size,
            "max_seq_length": limits.max_seq_length,
            "max_query_length": limits.max_query_length,
            "doc_stride": limits.doc_stride,
        }
        return prepare_with_file(
            engine,
            places,
            path,
            made_for=made_for,
            cut=lambda texts: self._cut([(places[text], text) for text in texts]),
        )

    def _cut(self, named: Sequence[tuple[str, str]]) -> Iterator[list[IntArray]]:
        """Yield the windows of checked passages, each with its place for messages."""
        encodings, _ = self.session.encode([context for _, context in named], [])
        sep_id = self.session.tokenizer.sep_id
        for (place, _), encoding in zip(named, encodings, strict=True):
            try:
                yield passage_parts(encoding, config=self.limits, sep_id=sep_id)
            except InputError as error:
                raise with_place(error, place) from None

    @property
    def context_cache(self) -> Mapping[str, int]:
        """What prepare and answers have left, for an artifact with split layers.

        num_contexts (windows of passages), num_bytes, max_bytes, num_hits and num_misses; a
        ConfigError as in prepare.
        """
        return self._keeping().context_cache()

    def _keeping(self) -> KeepingEngine:
        engine = self.session.engine
        if engine is None or not self.session.passage_position_offset:
            raise ConfigError("split layers: the artifact has none, so nothing can be kept")
        return engine.keeping

    async def answer_async(
        self,
        question: str,
        context: str,
        *,
        top_k: int = 1,
        max_overlap: float | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Do what answer does without blocking the event loop; cancelling drops the request."""
        options = self.options(_TASK, top_k=top_k, timeout_s=timeout_s, max_overlap=max_overlap)
        answer: Answer = await self.ask_async((question, context), options)
        return answer


def _checked(contexts: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield passages, checked, with their places for messages."""
    named = [("", contexts)] if isinstance(contexts, str) else enumerate(contexts)
    for index, context in named:
        place = f"contexts[{index}]" if isinstance(index, int) else index
        try:
            check_text("context", context, max_chars=MAX_TEXT_CHARS)
        except InputError as error:
            raise with_place(error, place) from None
        yield place, context
