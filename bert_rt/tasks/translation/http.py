"""Translations by HTTP: texts -> the same in another language."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from bert_rt.tasks.forms.http import TaskRequest, TaskResponse, TextForm, Texts, Usage
from bert_rt.tasks.forms.page import PageExample, PageField, PageView
from bert_rt.tasks.translation.options import SEARCH_FIELDS
from bert_rt.tasks.translation.rows import translation_fields
from bert_rt.types import TranslatedSentence, TranslatedText

__all__ = ["FoundTranslation", "TranslateForm", "TranslateRequest", "WrittenSentence"]

_Count = Annotated[int, Meta(ge=0, le=2**20)]


class TranslateRequest(TaskRequest):
    """One or many texts.

    Attributes:
        text: A text, or several.
        num_beams: Partial translations that the search keeps; 1 is greedy search.
        length_penalty: Above 0 longer translations gain.
        early_stopping: True, false or "never": when a search ends.
        no_repeat_ngram_size: No so many tokens in a row stand twice; 0 for no such rule.
        repetition_penalty: Above 1 makes tokens that stand in the translation less likely.
        max_new_tokens: Most tokens of a sentence's translation.
        min_new_tokens: Least tokens of a sentence's translation.
        split_sentences: False to translate a text as one; left out: its sentences one by one.
    """

    text: Texts
    num_beams: Annotated[int, Meta(ge=1, le=1024)] | None = None
    length_penalty: float | None = None
    early_stopping: bool | Literal["never"] | None = None
    no_repeat_ngram_size: _Count | None = None
    repetition_penalty: float | None = None
    max_new_tokens: _Count | None = None
    min_new_tokens: _Count | None = None
    split_sentences: bool | None = None


class OtherTranslation(msgspec.Struct):
    """Another translation of a sentence.

    Attributes:
        text: The translation.
        score: As in WrittenSentence.
    """

    text: str
    score: float


class WrittenSentence(msgspec.Struct):
    """The translation of a sentence.

    Attributes:
        text: The translation.
        start: First character of the sentence in the text, in code points.
        end: One past its last character.
        score: Log probability of the translation, normalized by its length.
        alternatives: With top_k above 1 the next best ones.
    """

    text: str
    start: int
    end: int
    score: float
    alternatives: list[OtherTranslation] = []


class FoundTranslation(msgspec.Struct):
    """The translation of a text.

    Attributes:
        text: All of it.
        sentences: Its sentences in the order of the text.
    """

    text: str
    sentences: list[WrittenSentence]


class TranslateResponse(TaskResponse):
    """Translations, one a text, in order.

    Attributes:
        translations: What was written.
    """

    translations: list[FoundTranslation]


_EXAMPLES = (
    PageExample(
        name="a street",
        text="A man in a blue shirt is standing on a ladder. Two children are watching him from "
        "the other side of the street. A dog is sleeping in the sun.",
    ),
    PageExample(
        name="a beach",
        text="\U0001f3d6 A young woman is reading a book on the beach. People are playing "
        "volleyball behind her.",
    ),
)


class TranslateForm(TextForm):
    """Texts to be translated."""

    path = "translate"
    summary = "Translate texts"
    request = TranslateRequest
    response = TranslateResponse
    example: ClassVar[Mapping[str, Any]] = {
        "text": "A cat sits on the mat. It is warm.",
        "num_beams": 4,
    }
    kinds = ("translation",)
    outputs: ClassVar[Mapping[str, str]] = {"translation": "BYTES", "sentences": "BYTES"}
    parameters = (*SEARCH_FIELDS, "split_sentences")
    page = PageView(
        title="Translate a text",
        hint="Paste a text or drop a file; point at a translated sentence to see its source.",
        button="Translate",
        text=PageField(name="text", label="Text", key="t"),
        examples=_EXAMPLES,
        results="translations",
        result_title="Translation",
        headline="text",
        nothing="The translation is empty",
        parts="sentences",
        are_parts_marked=False,
    )

    def respond(
        self, results: Sequence[TranslatedText], model: str, usage: Usage
    ) -> TranslateResponse:
        """Return the translations with their sentences."""
        translations = [
            FoundTranslation(each.text, [_written(sentence) for sentence in each.sentences])
            for each in results
        ]
        return TranslateResponse(translations=translations, model=model, usage=usage)

    def tensors(self, results: Sequence[TranslatedText]) -> dict[str, list[Any]]:
        """Return the translations, and their sentences as JSON."""
        return {
            "translation": [result.text for result in results],
            "sentences": [
                json.dumps(translation_fields(result)["sentences"]) for result in results
            ],
        }

    def hugging_face(
        self, results: Sequence[TranslatedText], *, is_many: bool, top_k: int | None
    ) -> list[Any]:
        """Return a list with one translation a text, as the API does for one text too."""
        del is_many, top_k
        return [{"translation_text": result.text} for result in results]


def _written(sentence: TranslatedSentence) -> WrittenSentence:
    others = [OtherTranslation(each.text, each.score) for each in sentence.alternatives]
    return WrittenSentence(sentence.text, sentence.start, sentence.end, sentence.score, others)
