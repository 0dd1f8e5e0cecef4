"""Summaries by HTTP: texts -> their best sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from bert_rt.tasks.forms.http import TaskRequest, TaskResponse, TextForm, Texts, Usage
from bert_rt.tasks.forms.page import PageExample, PageField, PageView
from bert_rt.tasks.summarization.rows import summary_fields
from bert_rt.types import Summary

__all__ = ["FoundSentence", "FoundSummary", "SummarizeForm", "SummarizeRequest"]


class SummarizeRequest(TaskRequest):
    """One or many texts.

    Attributes:
        text: A text, or several.
        max_sentences: Sentences wanted of each; None for the model's own number.
    """

    text: Texts
    max_sentences: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class FoundSentence(msgspec.Struct):
    """A sentence of a summary.

    Attributes:
        text: The sentence, as the text has it.
        start: Its first character, in code points.
        end: One past its last character.
        score: Probability that it belongs into a summary, from 0 to 1.
        index: Its place among all sentences of the text, from 0.
    """

    text: str
    start: int
    end: int
    score: float
    index: int


class FoundSummary(msgspec.Struct):
    """The summary of a text.

    Attributes:
        text: Its sentences with single spaces between them.
        sentences: The sentences in the order of the text.
    """

    text: str
    sentences: list[FoundSentence]


class SummarizeResponse(TaskResponse):
    """Summaries, one a text, in order.

    Attributes:
        summaries: What was found.
    """

    summaries: list[FoundSummary]


_EXAMPLES = (
    PageExample(
        name="a bridge",
        text="The old bridge over the river will be closed for two years from next spring. "
        "Engineers found cracks in three of its pillars in March. On Monday the town council "
        "decided to build new ones instead of mending them. The work will cost 14 million euros, "
        "most of it paid by the state. A ferry will carry people and bicycles while the bridge is "
        "closed. Cars have to use the motorway, 12 kilometres to the north. The mayor called the "
        "decision hard but right. Shops near the bridge fear for their customers.",
    ),
    PageExample(
        name="a journey",
        text="\U0001f427 A penguin has swum 2,000 kilometres from Antarctica to New Zealand. "
        "Walkers found him on a beach near Christchurch on Wednesday. He was thin, but not hurt. A "
        "vet fed him fish for two days. It is only the third time that his kind was seen there. On "
        "Friday he was set free in a bay without dogs.",
    ),
)


class SummarizeForm(TextForm):
    """Texts to be summed up."""

    path = "summarize"
    summary = "Sum up texts by their best sentences"
    request = SummarizeRequest
    response = SummarizeResponse
    example: ClassVar[Mapping[str, Any]] = {
        "text": "The cat sat on the mat in Paris. It was warm. The dog stood by.",
        "max_sentences": 1,
    }
    kinds = ("summary",)
    outputs: ClassVar[Mapping[str, str]] = {"summary": "BYTES", "sentences": "BYTES"}
    parameters = ("max_sentences",)
    page = PageView(
        title="Sum up a text",
        hint="Paste a text or drop a file: its best sentences are the summary.",
        button="Sum up",
        text=PageField(name="text", label="Text", key="t"),
        examples=_EXAMPLES,
        results="summaries",
        result_title="Summary",
        headline="text",
        parts="sentences",
    )

    def respond(self, results: Sequence[Summary], model: str, usage: Usage) -> SummarizeResponse:
        """Return the summaries with their sentences."""
        summaries = [
            FoundSummary(
                each.text,
                [FoundSentence(s.text, s.start, s.end, s.score, s.index) for s in each.sentences],
            )
            for each in results
        ]
        return SummarizeResponse(summaries=summaries, model=model, usage=usage)

    def tensors(self, results: Sequence[Summary]) -> dict[str, list[Any]]:
        """Return the summaries, and their sentences as JSON."""
        return {
            "summary": [result.text for result in results],
            "sentences": [json.dumps(summary_fields(result)["sentences"]) for result in results],
        }

    def hugging_face(
        self, results: Sequence[Summary], *, is_many: bool, top_k: int | None
    ) -> list[Any]:
        """Return a list with one summary a text, as the API does for one text too."""
        del is_many, top_k
        return [{"summary_text": result.text} for result in results]
