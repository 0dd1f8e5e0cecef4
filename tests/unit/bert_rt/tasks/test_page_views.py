"""What tasks say to the page: their fields are there, of the right kind, and links are unmixed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from bert_rt.tasks.forms.http import AnyForm, HttpForm
from bert_rt.tasks.forms.page import PageView
from bert_rt.tasks.registry import TASKS

_FORMS = {name: task.http() for name, task in TASKS.items()}
_every_form = pytest.mark.parametrize("form", _FORMS.values(), ids=_FORMS)


def _types(cls: type[Any]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(cls)}


def _element(kind: Any, field: str) -> Any:
    """Return the struct of a field that is a list, or may be left out."""
    found = msgspec.inspect.type_info(_types(kind)[field])
    choices = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
    (listed,) = [it for it in choices if isinstance(it, msgspec.inspect.ListType)]
    assert isinstance(listed.item_type, msgspec.inspect.StructType)
    return listed.item_type.cls


def _written(view: PageView, example: Any) -> dict[str, Any]:
    """Return the request that the page makes of an example."""
    request = dict(view.fixed)
    for field, value in ((view.text, example.text), (view.line, example.line)):
        if field is not None and value:
            assert field.name is not None
            request[field.name] = value
        else:
            assert field is None or field.is_optional
    return request


@_every_form
def test_the_fields_of_requests_are_there(form: HttpForm) -> None:
    view = form.page
    assert view is not None, "every task of our own says how the page shows it"
    for field in (view.text, view.line):
        if field is not None:
            assert field.name is not None
            # A text that is a string has to do.
            assert msgspec.convert("a", _types(form.request)[field.name]) == "a"
    required = {it.name for it in msgspec.structs.fields(form.request) if it.required}
    asked = {it.name for it in (view.text, view.line) if it is not None and not it.is_optional}
    assert required <= asked | set(view.fixed)


@_every_form
def test_the_fields_of_results_are_there(form: HttpForm) -> None:
    view = form.view
    assert view.results is not None
    result = _element(form.response, view.results)
    kinds = _types(result)
    if view.headline is not None:
        assert kinds[view.headline] is str
    if view.score is not None:
        assert kinds[view.score] is float
    if view.alternatives is not None:
        # The page shows them by the same fields.
        assert _element(result, view.alternatives) is result
    if view.parts is None:
        assert view.part_label is None
        return
    part = _types(_element(result, view.parts) if view.parts else result)
    assert part["start"] is int and part["end"] is int
    if view.part_label is not None:
        assert part[view.part_label] is str
    if view.headline is not None:
        assert part["text"] is str
    assert view.headline is not None or view.are_parts_marked, "nothing would point at a part"


@_every_form
def test_the_examples_are_requests_that_the_task_takes(form: HttpForm) -> None:
    view = form.view
    assert len(view.examples) > 1
    assert len({example.name for example in view.examples}) == len(view.examples)
    (task,) = [task for task in TASKS.values() if task.http().path == form.path]
    for example in view.examples:
        request = msgspec.convert(_written(view, example), form.request)
        (item,) = form.items(request)
        task.check_input(item)
    characters = "".join(example.text for example in view.examples)
    assert form.page is not None and (not view.parts or not characters.isascii()), (
        "an example shows that positions count code points"
    )


@_every_form
def test_what_people_read_is_there(form: HttpForm) -> None:
    view = form.view
    texts = (view.title, view.hint, view.button, view.text.label, view.result_title, view.nothing)
    assert all(text.strip() for text in texts)
    assert view.hint.endswith(".") and not view.title.endswith(".")
    assert view.line is None or view.line.label.strip()


def test_links_are_unmixed() -> None:
    keys = {
        name: {it.key for it in (form.view.text, form.view.line) if it}
        for name, form in _FORMS.items()
    }
    assert {"q", "c"} in keys.values()  # Links of the first versions have these two.
    assert all("m" not in found for found in keys.values())  # The model's name.
    for name, form in _FORMS.items():
        assert len(keys[name]) == (1 if form.view.line is None else 2)


def test_a_task_that_says_nothing_is_asked_by_json() -> None:
    view = AnyForm("count", "texts").view
    assert view.text.name is None and view.results is None
    assert view.title == "Compute texts"
    (example,) = view.examples
    request = msgspec.json.decode(example.text, type=AnyForm.request)
    assert json.loads(example.text) == AnyForm.example and request.inputs == ["a text"]
