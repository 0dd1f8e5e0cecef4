"""The methods of Runtime that label the words of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bert_rt.tasks.asking import Asking
from bert_rt.tasks.token_classification.tagging import TokenClassification
from bert_rt.types import Tagging

__all__ = ["TagMethods"]

_TASK = TokenClassification()


class TagMethods(Asking):
    """Labels the words of texts, where the artifact was made for that."""

    def tag(self, text: str | Sequence[str], *, timeout_s: float | None = None) -> Tagging:
        """Label the words of one text, and find its entities.

        Args:
            text: The text, of any length up to ten million characters; or its words, where they are
                known already.
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            All words and entities, with text[word.start:word.end] == word.text. Spans of words that
            were given are those in the words with single spaces between them.

        Raises:
            InputError: A text is empty, too long or unreadable, or a value is out of range.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: timeout_s has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        result: Tagging = self.ask(text, self.options(_TASK, timeout_s=timeout_s))
        return result

    def tag_batch(
        self, texts: Iterable[str | Sequence[str]], *, timeout_s: float | None = None
    ) -> list[Tagging]:
        """Label the words of many texts together, as tag does; all are checked first."""
        return self.ask_batch(texts, self.options(_TASK, timeout_s=timeout_s))

    def tag_stream(self, texts: Iterable[str | Sequence[str]]) -> Iterator[Tagging]:
        """Label the words of any number of texts in order and bounded memory; a bad one raises."""
        return self.ask_stream(texts, self.options(_TASK))

    async def tag_async(
        self, text: str | Sequence[str], *, timeout_s: float | None = None
    ) -> Tagging:
        """Do what tag does without blocking the event loop; cancelling drops the request."""
        result: Tagging = await self.ask_async(text, self.options(_TASK, timeout_s=timeout_s))
        return result
