"""The methods of Runtime that answer questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bert_rt.tasks.asking import Asking
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.types import Answer, Question

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
