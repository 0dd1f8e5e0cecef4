"""The methods of Runtime that classify texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bert_rt.tasks.asking import Asking
from bert_rt.tasks.text_classification.classifying import TextClassification
from bert_rt.types import Classification, TextInput

__all__ = ["ClassifyMethods"]

_TASK = TextClassification()


class ClassifyMethods(Asking):
    """Classifies texts, where the artifact was made for that."""

    def classify(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        top_k: int | None = None,
        timeout_s: float | None = None,
    ) -> Classification:
        """Classify one text, or one pair of texts.

        Args:
            text: The text; what is beyond the artifact's max_seq_length tokens is cut off.
            text_pair: The second text of a pair.
            top_k: Classes wanted; those after the best are its alternatives. None for one, and
                for all where the model gives a text several labels.
            timeout_s: Seconds to wait at most; None for no limit.

        Returns:
            The best class; of several labels the likeliest one; of a regression the only one, with
            the value as its score.

        Raises:
            InputError: A text is empty, too long or unreadable, or a value is out of range.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: timeout_s has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        options = self.options(_TASK, top_k=top_k, timeout_s=timeout_s)
        result: Classification = self.ask(TextInput(text, text_pair), options)
        return result

    def classify_batch(
        self,
        texts: Iterable[str | TextInput | tuple[str, str]],
        *,
        top_k: int | None = None,
        timeout_s: float | None = None,
    ) -> list[Classification]:
        """Classify many texts or pairs together, each as classify does; all are checked first."""
        return self.ask_batch(texts, self.options(_TASK, top_k=top_k, timeout_s=timeout_s))

    def classify_stream(
        self, texts: Iterable[str | TextInput | tuple[str, str]], *, top_k: int | None = None
    ) -> Iterator[Classification]:
        """Classify any number of texts in order and bounded memory; a bad one raises."""
        return self.ask_stream(texts, self.options(_TASK, top_k=top_k))

    async def classify_async(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        top_k: int | None = None,
        timeout_s: float | None = None,
    ) -> Classification:
        """Do what classify does without blocking the event loop; cancelling drops the request."""
        options = self.options(_TASK, top_k=top_k, timeout_s=timeout_s)
        result: Classification = await self.ask_async(TextInput(text, text_pair), options)
        return result
