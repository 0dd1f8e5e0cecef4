"""Token classification by HTTP: texts -> entities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from bert_rt.tasks.forms.http import TaskRequest, TaskResponse, TextForm, Texts, Usage
from bert_rt.tasks.forms.page import PageExample, PageField, PageView
from bert_rt.tasks.token_classification.rows import tag_fields
from bert_rt.types import Tagging

__all__ = ["FoundEntity", "FoundTagging", "TagForm", "TagRequest"]


class TagRequest(TaskRequest):
    """One or many texts.

    Attributes:
        text: A text, or several.
    """

    text: Texts


class FoundEntity(msgspec.Struct):
    """An entity of a text.

    Attributes:
        text: The entity, as the text has it.
        start: Its first character, in code points.
        end: One past its last character.
        label: Its kind.
        score: Mean probability of its words' labels, from 0 to 1.
    """

    text: str
    start: int
    end: int
    label: str
    score: float


class FoundTagging(msgspec.Struct):
    """The entities of a text.

    Attributes:
        entities: In order.
    """

    entities: list[FoundEntity]


class TagResponse(TaskResponse):
    """What was found, one a text, in order.

    Attributes:
        taggings: What was found.
    """

    taggings: list[FoundTagging]


_EXAMPLES = (
    PageExample(
        name="a launch",
        text="\U0001f680 Apollo 11 was launched by NASA from Kennedy Space Center in Florida, with "
        "Neil Armstrong, Buzz Aldrin and Michael Collins.",
    ),
    PageExample(
        name="a meeting",
        text="Angela Merkel met Emmanuel Macron in Berlin before the summit of the European Union.",
    ),
)


class TagForm(TextForm):
    """Texts whose entities are to be found."""

    path = "tag"
    summary = "Find the entities of texts"
    request = TagRequest
    response = TagResponse
    example: ClassVar[Mapping[str, Any]] = {"text": "The cat sat on the mat in Paris."}
    kinds = ("tagging",)
    outputs: ClassVar[Mapping[str, str]] = {"entities": "BYTES"}
    page = PageView(
        title="Find entities",
        hint="Paste a text or drop a file: names and other entities are marked in it.",
        button="Find entities",
        text=PageField(name="text", label="Text", key="t"),
        examples=_EXAMPLES,
        results="taggings",
        result_title="Entities",
        nothing="No entity in this text",
        parts="entities",
        part_label="label",
    )

    def respond(self, results: Sequence[Tagging], model: str, usage: Usage) -> TagResponse:
        """Return the entities of every text."""
        taggings = [
            FoundTagging(
                [FoundEntity(e.text, e.start, e.end, e.label, e.score) for e in each.entities]
            )
            for each in results
        ]
        return TagResponse(taggings=taggings, model=model, usage=usage)

    def tensors(self, results: Sequence[Tagging]) -> dict[str, list[Any]]:
        """Return the entities as JSON."""
        return {"entities": [json.dumps(tag_fields(result)["entities"]) for result in results]}

    def hugging_face(
        self, results: Sequence[Tagging], *, is_many: bool, top_k: int | None
    ) -> list[Any]:
        """Return the entities of a text, or a list of such lists."""
        del top_k
        found = [
            [
                {
                    "entity_group": entity.label,
                    "score": entity.score,
                    "word": entity.text,
                    "start": entity.start,
                    "end": entity.end,
                }
                for entity in result.entities
            ]
            for result in results
        ]
        return found if is_many else found[0]
