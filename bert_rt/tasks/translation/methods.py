"""The methods of Runtime that translate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from bert_rt.errors import InputError
from bert_rt.tasks.asking import Asking
from bert_rt.tasks.translation.growing import Growing
from bert_rt.tasks.translation.options import SEARCH_FIELDS, TranslateOptions, search_of
from bert_rt.tasks.translation.translating import Translating
from bert_rt.types import TranslatedText

__all__ = ["TranslateMethods"]

_TASK = Translating()
_SETTINGS = (*SEARCH_FIELDS, "split_sentences")
_WATCH = "watch"  # of this module only


class TranslateMethods(Asking):
    """Writes texts in another language, where the artifact was made for that."""

    def translate(
        self, text: str, *, top_k: int = 1, timeout_s: float | None = None, **search: Any
    ) -> TranslatedText:
        """Translate one text.

        Args:
            text: A sentence or a document, of any length up to ten million characters.
            top_k: Translations wanted of every sentence; more than one are its alternatives.
            timeout_s: Seconds to wait at most; None for no limit.
            **search: How to search where not as the artifact says: num_beams (1 is greedy search),
                length_penalty, early_stopping, no_repeat_ngram_size, repetition_penalty,
                max_new_tokens and min_new_tokens (of every sentence); split_sentences=False
                translates the text as one.

        Returns:
            The translations of its sentences, joined by what stands between them in the text.

        Raises:
            InputError: The text is empty, too long or unreadable, or a value is out of range.
            OverloadedError: Too much is waiting already.
            DeadlineExceededError: timeout_s has passed.
            EngineError: The engine failed, or the Runtime is closed.
        """
        result: TranslatedText = self.ask(text, _options(self, top_k, timeout_s, search))
        return result

    def translate_batch(
        self, texts: Iterable[str], *, top_k: int = 1, timeout_s: float | None = None, **search: Any
    ) -> list[TranslatedText]:
        """Translate many texts together, each as translate does; all are checked first."""
        return self.ask_batch(texts, _options(self, top_k, timeout_s, search))

    def translate_stream(
        self, texts: Iterable[str], *, top_k: int = 1, **search: Any
    ) -> Iterator[TranslatedText]:
        """Translate any number of texts in order and bounded memory; a bad one raises."""
        return self.ask_stream(texts, _options(self, top_k, None, search))

    def translate_live(
        self, text: str, *, timeout_s: float | None = None, **search: Any
    ) -> Iterator[str]:
        """Translate one text and show how the translation grows.

        Args:
            text: As in translate.
            timeout_s: As in translate.
            **search: As in translate. Greedy search shows every token at once; with beams those
                are shown that no later step can change.

        Yields:
            All of the translation that is sure so far, each time that there is more of it; at last
            the whole, which translate returns as its text. Leaving the iteration early drops the
            request.

        Raises:
            BertRtError: As in translate.
        """
        events: SimpleQueue[tuple[int, tuple[int, ...]] | None] = SimpleQueue()
        asked = {**search, _WATCH: lambda number, ids: events.put((number, ids))}
        options = _options(self, 1, timeout_s, asked)
        item = _TASK.check_input(text)
        (prepared,) = _TASK.prepare([item], self.session, options)
        future = self.session.submit(_TASK, item, options)
        future.add_done_callback(lambda _: events.put(None))
        growing = Growing(prepared, search_of(options))
        shown = ""
        try:
            while (event := events.get()) is not None:
                so_far = growing.update(*event)
                if so_far != shown:
                    yield (shown := so_far)
            whole = future.result().text
            if whole != shown:
                yield whole
        finally:
            future.cancel()

    async def translate_async(
        self, text: str, *, top_k: int = 1, timeout_s: float | None = None, **search: Any
    ) -> TranslatedText:
        """Do what translate does without blocking the event loop; cancelling drops the request."""
        result: TranslatedText = await self.ask_async(
            text, _options(self, top_k, timeout_s, search)
        )
        return result


def _options(
    asking: Asking, top_k: int, timeout_s: float | None, search: dict[str, Any]
) -> TranslateOptions:
    for name, value in search.items():
        if name not in (*_SETTINGS, _WATCH):
            raise InputError(
                f"{name}: got {value!r}, but translations have no such setting; it has "
                f"{', '.join(_SETTINGS)}"
            )
    options = asking.options(_TASK, top_k=top_k, timeout_s=timeout_s, **search)
    assert isinstance(options, TranslateOptions), "the task's own options"
    return options
