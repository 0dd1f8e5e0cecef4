"""A translation while it is written: the text of what is sure so far."""

from __future__ import annotations

from bert_rt.generation.config import GenerationConfig
from bert_rt.tasks.translation.translating import PreparedText, joined

__all__ = ["Growing"]

# What a decoder shows of a character whose bytes have not all come.
_INCOMPLETE = "\ufffd"


class Growing:
    """Puts the sentences of a text together as their tokens come."""

    def __init__(self, prepared: PreparedText, search: GenerationConfig) -> None:
        """Begin with nothing.

        Args:
            prepared: The text.
            search: How its translations are searched, which says when one is complete.
        """
        self._prepared = prepared
        self._search = search
        self._tokens: dict[int, tuple[int, ...]] = {}

    def update(self, number: int, token_ids: tuple[int, ...]) -> str:
        """Take the tokens of a sentence that are sure.

        Args:
            number: The sentence.
            token_ids: All of them, from the start token on.

        Returns:
            The translation so far: that of the sentences from the first one to the first that is
            not complete.
        """
        self._tokens[number] = token_ids
        texts = []
        for place in range(len(self._prepared.sequences)):
            known = self._tokens.get(place)
            if known is None:
                break
            text = self._prepared.tokenizer.decode(known, skip_special_tokens=True).strip()
            texts.append(text.rstrip(_INCOMPLETE))
            is_complete = known[-1] in self._search.eos_token_ids
            if not is_complete and len(known) < self._search.longest:
                break
        return joined(self._prepared.text, self._prepared.sequences[: len(texts)], texts)
