"""How a task is asked by HTTP: the fields of a request, and the JSON of a result.

A task describes itself once, as an HttpForm. The server makes of it the route `/v1/<path>`, its
JSON schema and example, the tensors of the Open Inference Protocol, the shapes of Hugging Face's
inference API and what the page shows (forms/page.py). Needs msgspec, which the extra
bert-rt[serve] brings.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from bert_rt.errors import InputError
from bert_rt.scheduling.requests import LOWEST_PRIORITY
from bert_rt.tasks.forms.page import PageView, raw_view

__all__ = [
    "AnyForm",
    "HttpForm",
    "InferenceForm",
    "TaskRequest",
    "TaskResponse",
    "TextForm",
    "Texts",
    "Usage",
    "align",
]

# One text or several.
Texts = str | Annotated[list[str], Meta(min_length=1)]


class TaskRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The fields that every task's request has.

    Attributes:
        model: Name of a model; None for the first one of the task.
        top_k: Results wanted of every input.
        timeout_ms: Milliseconds after which the request is given up.
        priority: 1 is the highest, 9 the lowest; 0, the default, stands for 5.
    """

    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    top_k: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=86_400_000)] | None = None
    priority: Annotated[int, Meta(ge=0, le=LOWEST_PRIORITY)] = 0


class Usage(msgspec.Struct):
    """What a request cost.

    Attributes:
        tokens: Tokens that the model read, special tokens and overlaps included.
    """

    tokens: int


class TaskResponse(msgspec.Struct, kw_only=True):
    """The fields that every task's response has.

    Attributes:
        model: Name of the model.
        usage: What the request cost.
    """

    model: str
    usage: Usage


class HttpForm(ABC):
    """How a task is asked by HTTP. Implementations are stateless.

    Attributes:
        path: Last part of the route `/v1/<path>`.
        summary: One sentence about the route.
        request: What a request's body is.
        response: What a response's body is.
        example: A request.
        kinds: The kinds of results, for metrics.
        inputs: Names of the tensors that a request must have, all BYTES, with as many elements as
            there are items or with one for all.
        optional_inputs: Names of those that it may have.
        outputs: Names of a response's tensors, and their datatypes.
        parameters: Names of fields of the task's own options that requests may set.
        page: How the server's page asks the task and shows its results; None for requests and
            responses as JSON.
    """

    path: str
    summary: str
    request: ClassVar[type[TaskRequest]]
    response: ClassVar[type[TaskResponse]]
    example: ClassVar[Mapping[str, Any]]
    kinds: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[str, ...]]
    optional_inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[Mapping[str, str]]
    parameters: ClassVar[tuple[str, ...]] = ()
    page: ClassVar[PageView | None] = None

    @property
    def view(self) -> PageView:
        """What the server's page knows of the task."""
        return self.page or raw_view(self.summary, self.example)

    @abstractmethod
    def items(self, request: Any) -> list[Any]:
        """Return what Task.check_input takes of a request; raises InputError."""

    def options(self, request: Any) -> dict[str, Any]:
        """Return the fields of the task's own options that a request sets."""
        values = {name: getattr(request, name) for name in self.parameters}
        return {name: value for name, value in values.items() if value is not None}

    @abstractmethod
    def respond(self, results: Sequence[Any], model: str, usage: Usage) -> TaskResponse:
        """Return the response that holds the results, in order."""

    @abstractmethod
    def kind(self, result: Any) -> str:
        """Return which of kinds a result is."""

    @abstractmethod
    def items_of_tensors(self, tensors: Mapping[str, Sequence[str]]) -> list[Any]:
        """Return what Task.check_input takes of tensors' elements; raises InputError."""

    @abstractmethod
    def tensors(self, results: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the elements of the outputs, one a result."""


class InferenceForm(HttpForm):
    """The form of a task that Hugging Face's inference API has, too."""

    @abstractmethod
    def items_of_inputs(self, inputs: Any) -> list[Any] | None:
        """Return items of what the API calls inputs; None where they are not of this task."""

    @abstractmethod
    def hugging_face(self, results: Sequence[Any], *, is_many: bool, top_k: int | None) -> Any:
        """Return results in the shape of the API.

        Args:
            results: One an item.
            is_many: Whether the inputs were a list.
            top_k: What was asked for.

        Returns:
            Plain JSON values.
        """


def align(columns: Mapping[str, str | Sequence[str]]) -> list[tuple[str, ...]]:
    """Put columns of texts side by side; one that has a single text serves all rows.

    Args:
        columns: Texts by the name of their field.

    Returns:
        The rows.

    Raises:
        InputError: Two columns have different numbers of texts, neither of them one, or one
            has none.
    """
    lists = {name: [it] if isinstance(it, str) else list(it) for name, it in columns.items()}
    num_rows = 1
    first = ""
    for name, texts in lists.items():
        if not texts:
            raise InputError(f"{name}: got no text, want at least one")
        if len(texts) == 1:
            continue
        if num_rows not in (1, len(texts)):
            raise InputError(
                f"{name}: got {len(texts)} texts beside {num_rows} of {first}, want as many, or one"
            )
        num_rows, first = len(texts), name
    full = [texts * num_rows if len(texts) == 1 else texts for texts in lists.values()]
    return list(zip(*full, strict=True))


class TextForm(InferenceForm):
    """The form of a task that takes a text: what it asks, by the field `text`."""

    inputs = ("text",)

    def items(self, request: Any) -> list[Any]:
        """Return the texts."""
        return [text for (text,) in align({"text": request.text})]

    def kind(self, result: Any) -> str:
        """Return the only one."""
        del result
        return self.kinds[0]

    def items_of_tensors(self, tensors: Mapping[str, Sequence[str]]) -> list[Any]:
        """Return the texts."""
        return list(tensors["text"])

    def items_of_inputs(self, inputs: Any) -> list[Any] | None:
        """Take a text, or a list of texts."""
        entries = inputs if isinstance(inputs, list) else [inputs]
        is_text = all(isinstance(entry, str) for entry in entries)
        return entries if entries and is_text else None


class AnyRequest(TaskRequest):
    """A request of a task that says nothing of its fields.

    Attributes:
        inputs: What the task takes, one after the other.
    """

    inputs: Annotated[list[Any], Meta(min_length=1)]


class AnyResponse(TaskResponse):
    """A response of a task that says nothing of its fields.

    Attributes:
        results: One an input.
    """

    results: list[Any]


class AnyForm(HttpForm):
    """The form of a task that says nothing of its fields: inputs and results as they are."""

    request = AnyRequest
    response = AnyResponse
    example: ClassVar[Mapping[str, Any]] = {"inputs": ["a text"]}
    kinds = ("result",)
    inputs = ("text",)
    outputs: ClassVar[Mapping[str, str]] = {"result": "BYTES"}

    def __init__(self, path: str, noun: str) -> None:
        """Name the route.

        Args:
            path: Last part of the route.
            noun: What the task's inputs are called.
        """
        self.path = path
        self.summary = f"Compute {noun}"

    def items(self, request: AnyRequest) -> list[Any]:
        """Return the inputs."""
        return request.inputs

    def respond(self, results: Sequence[Any], model: str, usage: Usage) -> AnyResponse:
        """Return the results as plain JSON."""
        plain = [msgspec.to_builtins(result) for result in results]
        return AnyResponse(results=plain, model=model, usage=usage)

    def kind(self, result: Any) -> str:
        """Return the only one."""
        del result
        return "result"

    def items_of_tensors(self, tensors: Mapping[str, Sequence[str]]) -> list[Any]:
        """Return the texts."""
        return list(tensors["text"])

    def tensors(self, results: Sequence[Any]) -> dict[str, list[Any]]:
        """Return the results as JSON."""
        return {"result": [json.dumps(msgspec.to_builtins(result)) for result in results]}
