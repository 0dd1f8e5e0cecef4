"""The methods of Runtime that sum documents up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bert_rt.tasks.asking import Asking
from bert_rt.tasks.summarization.summarizing import Summarization
from bert_rt.types import Summary

__all__ = ["SummarizeMethods"]

_TASK = Summarization()


class SummarizeMethods(Asking):
    """Chooses the sentences that sum documents up, where the artifact was made for that."""

    def summarize(
        self,
        text: str,
        *,
        max_sentences: int | None = None,
        trigram_blocking: bool = True,
        timeout_s: float | None = None,
    ) -> Summary:
        """Sum up one document by its best sentences.

        Args:
            text: The document, of any length up to ten million characters.
            max_sentences: Sentences wanted; None for the artifact's. A document may have fewer.
            trigram_blocking: Whether a sentence that has three words in a row in common with a
                better one is passed over.
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            The sentences in the order of the text, with text[sentence.start:sentence.end] ==
            sentence.text.

        Raises:
            InputError: The text is empty, too long or unreadable, or a value is out of range.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: timeout_s has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        options = self.options(
            _TASK,
            timeout_s=timeout_s,
            max_sentences=max_sentences,
            trigram_blocking=trigram_blocking,
        )
        result: Summary = self.ask(text, options)
        return result

    def summarize_batch(
        self,
        texts: Iterable[str],
        *,
        max_sentences: int | None = None,
        trigram_blocking: bool = True,
        timeout_s: float | None = None,
    ) -> list[Summary]:
        """Sum up many documents together, each as summarize does; all are checked first."""
        options = self.options(
            _TASK,
            timeout_s=timeout_s,
            max_sentences=max_sentences,
            trigram_blocking=trigram_blocking,
        )
        return self.ask_batch(texts, options)

    def summarize_stream(
        self,
        texts: Iterable[str],
        *,
        max_sentences: int | None = None,
        trigram_blocking: bool = True,
    ) -> Iterator[Summary]:
        """Sum up any number of documents in order and bounded memory; a bad one raises."""
        options = self.options(
            _TASK, max_sentences=max_sentences, trigram_blocking=trigram_blocking
        )
        return self.ask_stream(texts, options)

    async def summarize_async(
        self,
        text: str,
        *,
        max_sentences: int | None = None,
        trigram_blocking: bool = True,
        timeout_s: float | None = None,
    ) -> Summary:
        """Do what summarize does without blocking the event loop; cancelling drops the request."""
        options = self.options(
            _TASK,
            timeout_s=timeout_s,
            max_sentences=max_sentences,
            trigram_blocking=trigram_blocking,
        )
        result: Summary = await self.ask_async(text, options)
        return result
