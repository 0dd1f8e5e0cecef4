"""Text classification by HTTP: texts, or pairs of texts -> classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from bert_rt.errors import InputError
from bert_rt.tasks.forms.http import InferenceForm, TaskRequest, TaskResponse, Texts, Usage, align
from bert_rt.tasks.forms.page import PageExample, PageField, PageView
from bert_rt.types import Classification, TextInput

__all__ = ["ClassifyForm", "ClassifyRequest", "ClassifyResponse", "FoundClass"]


class ClassifyRequest(TaskRequest):
    """One or many texts, or pairs of texts.

    Attributes:
        text: A text, or several.
        text_pair: The second text of each, or one for all.
    """

    text: Texts
    text_pair: Texts | None = None


class FoundClass(msgspec.Struct):
    """A class of a text, one of its labels, or the value that a regression gives it.

    Attributes:
        label: The class's name.
        score: Probability of the class, from 0 to 1; of a regression the value.
        alternatives: With top_k above 1, the next best classes.
    """

    label: str
    score: float
    alternatives: list[FoundClass] | UnsetType = UNSET


class ClassifyResponse(TaskResponse):
    """Classes, one a text, in order.

    Attributes:
        classes: What was found.
    """

    classes: list[FoundClass]


_EXAMPLES = (
    PageExample(
        name="a film",
        text="The story is thin, but the two actors are a joy to watch from the first minute on.",
    ),
    PageExample(
        name="a pair",
        text="A man plays the guitar on the stage.",
        line="Somebody makes music.",
    ),
)


class ClassifyForm(InferenceForm):
    """Texts, or pairs of texts."""

    path = "classify"
    summary = "Classify texts, or pairs of texts"
    request = ClassifyRequest
    response = ClassifyResponse
    example: ClassVar[Mapping[str, Any]] = {"text": "The cat sat on the mat in Paris."}
    kinds = ("class",)
    inputs = ("text",)
    optional_inputs = ("text_pair",)
    outputs: ClassVar[Mapping[str, str]] = {"label": "BYTES", "score": "FP32"}
    page = PageView(
        title="Classify a text",
        hint="Paste a text or drop a file: the model chooses one of its classes.",
        button="Classify",
        text=PageField(name="text", label="Text", key="t"),
        line=PageField(name="text_pair", label="Second text", key="p", is_optional=True),
        fixed={"top_k": 5},
        examples=_EXAMPLES,
        results="classes",
        result_title="Class",
        headline="label",
        score="score",
        alternatives="alternatives",
    )

    def items(self, request: ClassifyRequest) -> list[Any]:
        """Return texts, or pairs."""
        columns = {"text": request.text}
        if request.text_pair is not None:
            columns["text_pair"] = request.text_pair
        return [TextInput(*row) for row in align(columns)]

    def respond(
        self, results: Sequence[Classification], model: str, usage: Usage
    ) -> ClassifyResponse:
        """Return the classes with their alternatives."""
        return ClassifyResponse(classes=[_found(it) for it in results], model=model, usage=usage)

    def kind(self, result: Classification) -> str:
        """Return the only one: names of classes are the artifact's, and may be many."""
        del result
        return "class"

    def items_of_tensors(self, tensors: Mapping[str, Sequence[str]]) -> list[Any]:
        """Return texts, or pairs."""
        names = [name for name in (*self.inputs, *self.optional_inputs) if name in tensors]
        return [TextInput(*row) for row in align({name: tensors[name] for name in names})]

    def tensors(self, results: Sequence[Classification]) -> dict[str, list[Any]]:
        """Return labels and scores."""
        return {
            "label": [result.label for result in results],
            "score": [result.score for result in results],
        }

    def items_of_inputs(self, inputs: Any) -> list[Any] | None:
        """Take a text, {"text", "text_pair"}, or a list of such.

        Args:
            inputs: Any JSON value.

        Returns:
            The texts and pairs; None where they are not of these.

        Raises:
            InputError: A field is missing, or there is another one.
        """
        entries = inputs if isinstance(inputs, list) else [inputs]
        items: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict) and "text" in entry:
                other = sorted(set(entry) - {"text", "text_pair"})
                if other:
                    raise InputError(f"inputs: got the fields {other[:10]}, want text, text_pair")
                items.append(TextInput(entry["text"], entry.get("text_pair")))
            elif isinstance(entry, str):
                items.append(entry)
            else:
                return None
        return items or None

    def hugging_face(
        self, results: Sequence[Classification], *, is_many: bool, top_k: int | None
    ) -> list[Any]:
        """Return a list of classes a text, as the API does for one text too."""
        del is_many, top_k
        return [[_entry(it) for it in (result, *result.alternatives)] for result in results]


def _found(result: Classification) -> FoundClass:
    others = [_found(other) for other in result.alternatives] or UNSET
    return FoundClass(result.label, result.score, others)


def _entry(result: Classification) -> dict[str, Any]:
    return {"label": result.label, "score": result.score}
