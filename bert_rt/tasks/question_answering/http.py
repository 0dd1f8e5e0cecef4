"""Question answering by HTTP: question and context -> answers with their spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bert_rt.errors import InputError
from bert_rt.tasks.forms.http import InferenceForm, TaskRequest, TaskResponse, Texts, Usage, align
from bert_rt.tasks.forms.page import PageExample, PageField, PageView
from bert_rt.types import Answer

__all__ = ["AnswerForm", "AnswerRequest", "AnswerResponse", "FoundAnswer"]


class AnswerRequest(TaskRequest):
    """One or many questions over one or many contexts.

    Attributes:
        question: A question, or several.
        context: The passage that all questions are about, or one for each question. With one
            question every passage is asked.
        max_overlap: With top_k, most of the shorter one's characters, from 0 (none) to 1, that two
            answers may share.
    """

    question: Texts
    context: Texts
    max_overlap: Annotated[float, Meta(ge=0, le=1)] | None = None


class FoundAnswer(msgspec.Struct):
    """A span of the context.

    Attributes:
        text: The span's text; empty where the context holds no answer.
        start: First character of the span, in Unicode code points.
        end: One past the last character.
        score: Probability of the span, from 0 to 1.
        alternatives: With top_k above 1, the next best spans.
    """

    text: str
    start: int
    end: int
    score: float
    alternatives: list[FoundAnswer] | UnsetType = UNSET


class AnswerResponse(TaskResponse):
    """Answers, one a question, in order.

    Attributes:
        answers: What was found.
    """

    answers: list[FoundAnswer]


_EXAMPLES = (
    PageExample(
        name="a tower",
        text="The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris. It "
        "was designed by the company of Gustave Eiffel and finished in March 1889 for the World's "
        "Fair. At 330 metres it was the tallest structure in the world for 41 years.",
        line="When was the tower finished?",
    ),
    PageExample(
        name="a launch",
        text="\U0001f680 Apollo 11 was launched on 16 July 1969 from Kennedy Space Center. Four "
        "days later Neil Armstrong became the first person to walk on the Moon; Buzz Aldrin "
        "followed 19 minutes later, while Michael Collins stayed in orbit.",
        line="Who was the first person on the Moon?",
    ),
    PageExample(
        name="no answer",
        text="The museum is open from ten to six. It is closed on Mondays.",
        line="What does a ticket cost?",
    ),
)


class AnswerForm(InferenceForm):
    """Questions over contexts."""

    path = "answer"
    summary = "Answer questions by spans of their contexts"
    request = AnswerRequest
    response = AnswerResponse
    example: ClassVar[Mapping[str, Any]] = {
        "question": "Where did the cat sit?",
        "context": "The cat sat on the mat in Paris.",
    }
    kinds = ("answer", "no_answer")
    inputs = ("question", "context")
    outputs: ClassVar[Mapping[str, str]] = {
        "answer": "BYTES",
        "score": "FP32",
        "start": "INT64",
        "end": "INT64",
    }
    parameters = ("max_overlap",)
    page = PageView(
        title="Ask a passage",
        hint="Paste a text or drop a file, ask a question: the answer is a part of the text.",
        button="Ask",
        text=PageField(name="context", label="Passage", key="c"),
        line=PageField(name="question", label="Question", key="q"),
        fixed={"top_k": 4},
        examples=_EXAMPLES,
        results="answers",
        result_title="Answer",
        headline="text",
        nothing="No answer in this passage",
        score="score",
        alternatives="alternatives",
        parts="",
    )

    def items(self, request: AnswerRequest) -> list[Any]:
        """Return pairs of question and context."""
        return list(align({"question": request.question, "context": request.context}))

    def respond(self, results: Sequence[Answer], model: str, usage: Usage) -> AnswerResponse:
        """Return the answers with their alternatives."""
        return AnswerResponse(answers=[_found(it) for it in results], model=model, usage=usage)

    def kind(self, result: Answer) -> str:
        """Tell whether there is an answer."""
        return "answer" if result.text else "no_answer"

    def items_of_tensors(self, tensors: Mapping[str, Sequence[str]]) -> list[Any]:
        """Return pairs of question and context."""
        return list(align({name: tensors[name] for name in self.inputs}))

    def tensors(self, results: Sequence[Answer]) -> dict[str, list[Any]]:
        """Return texts, scores and spans."""
        return {
            "answer": [result.text for result in results],
            "score": [result.score for result in results],
            "start": [result.start for result in results],
            "end": [result.end for result in results],
        }

    def items_of_inputs(self, inputs: Any) -> list[Any] | None:
        """Take {"question", "context"}, or a list of such.

        Args:
            inputs: Any JSON value.

        Returns:
            The pairs; None where there is no such object.

        Raises:
            InputError: A field is missing, or there is another one.
        """
        entries = inputs if isinstance(inputs, list) else [inputs]
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            return None
        for entry in entries:
            if sorted(entry) != ["context", "question"]:
                raise InputError(
                    f"inputs: got the fields {sorted(entry)[:10]}, want question and context"
                )
        return [(entry["question"], entry["context"]) for entry in entries]

    def hugging_face(
        self, results: Sequence[Answer], *, is_many: bool, top_k: int | None
    ) -> list[Any] | dict[str, Any]:
        """Return an object a question; a list of them where several answers were asked for."""
        entries: list[Any] = []
        for result in results:
            found = [_entry(answer) for answer in (result, *result.alternatives)]
            entries.append(found if (top_k or 1) > 1 else found[0])
        return entries if is_many else entries[0]


def _found(answer: Answer) -> FoundAnswer:
    others = [_found(other) for other in answer.alternatives] or UNSET
    return FoundAnswer(answer.text, answer.start, answer.end, answer.score, others)


def _entry(answer: Answer) -> dict[str, Any]:
    span = {"start": answer.start, "end": answer.end}
    return {"answer": answer.text, "score": answer.score, **span}
