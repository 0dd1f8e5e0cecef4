"""How the server's page asks a task and shows its results, as data that the page's script reads.

A task says it once, as the PageView of its HttpForm. The page knows no task: what it does with a
view is written in bert_rt/serving/page/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bert_rt.support.strict_json import readable_json

__all__ = ["PageExample", "PageField", "PageView", "raw_view"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageField:
    """A field of the request that people write into.

    Attributes:
        name: The field's name; None where the text is the whole request, as JSON.
        label: What the page calls it.
        key: Its name in links to the page; links that are out there keep it.
        is_optional: Whether it may be left empty; it is left out of the request then.
    """

    name: str | None
    label: str
    key: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageExample:
    """A request that a click fills in and sends.

    Attributes:
        name: What the click is on.
        text: What is written into the long text.
        line: What is written into the line, where the view has one.
    """

    name: str
    text: str
    line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """How the page asks a task and shows its results.

    Where a result has a headline and lists parts of the text, the headline is made of the parts'
    own texts: the page finds them in it, and points from each to its part of the text.

    Attributes:
        title: The page's title while a model of the task is chosen.
        hint: One sentence below it.
        button: What the button that sends the request is called.
        text: The field with the long text.
        line: A field of one line beside it.
        fixed: Further fields of every request, such as top_k.
        examples: Requests to start with.
        results: The response's field of results, one an input; None to show the response as JSON
            and nothing else.
        result_title: What stands above a result.
        headline: A result's field that is shown first; None for the number of its parts.
        nothing: What is shown where the headline is empty, or where there is no part.
        score: A result's field with its probability, from 0 to 1. Where a model has a single label
            there is nothing to choose from, and the number is shown as a value.
        alternatives: A result's field with other results, of the same fields.
        parts: A result's field with parts of the text, each with start and end; "" where the
            result itself is such a part; None where it has none.
        part_label: A part's field that is shown beside it.
        are_parts_marked: Whether all parts are marked in the text, or only the one that the
            headline is pointed at.
    """

    title: str
    hint: str
    button: str
    text: PageField
    line: PageField | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[PageExample, ...] = ()
    results: str | None = None
    result_title: str = "Result"
    headline: str | None = None
    nothing: str = "Nothing was found"
    score: str | None = None
    alternatives: str | None = None
    parts: str | None = None
    part_label: str | None = None
    are_parts_marked: bool = True


def raw_view(summary: str, example: Mapping[str, Any]) -> PageView:
    """Return the view of a task that says nothing of it: request and response as JSON.

    Args:
        summary: One sentence about the task.
        example: A request.

    Returns:
        The view, with the example to start with.
    """
    return PageView(
        title=summary,
        hint="Write the request as JSON: the response is shown as it is.",
        button="Send",
        text=PageField(name=None, label="Request", key="j"),
        examples=(PageExample(name="a request", text=readable_json(dict(example), indent=2)),),
    )
