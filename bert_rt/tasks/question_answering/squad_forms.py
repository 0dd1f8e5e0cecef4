"""The forms that files of questions have, each read to records of one question.

    {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}
    {"data": [{"id", "title", "context", "question", "answers"}]}     as run_qa.py reads
    [{"id", ...}]                                                     the same without "data"
    {"id", ...}                                                       the same, one a line

The first is SQuAD's own. The flat ones come from the datasets library, whose "answers" are
{"text": [...], "answer_start": [...]}; both ways to write answers are taken in every form.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.files import read_text

__all__ = ["Record", "StructureError", "kind_of", "member", "read_document", "read_records"]

_KINDS = {
    type(None): "null",
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
}
_NESTED = '"paragraphs" (SQuAD)'
_FLAT = '"id", "context", "question" and "answers" (flat, as run_qa.py reads)'
_FORMS = (
    f'an object with "data", a list of objects with {_NESTED} or with {_FLAT}; a list of such flat '
    "objects; or one of them a line (JSON Lines)"
)


class StructureError(Exception):
    """A document or record has another form than expected; the message names the place."""


@dataclass(frozen=True, slots=True)
class Record:
    """One question as a file has it, unchecked beside being an object.

    Attributes:
        place: Where it stands, such as data[0].paragraphs[1].qas[2] or "line 3".
        fields: "id", "question", "answers" and what else is there.
        title: The article's title as the file has it; None where there is none.
        context: The passage, one string for all questions of a paragraph; None for a flat record,
            which has it among its fields.
    """

    place: str
    fields: Mapping[str, Any]
    title: Any
    context: str | None


def read_records(file: Path) -> Iterator[Record]:
    """Read a file of questions in any of the forms.

    Args:
        file: JSON or JSON Lines in UTF-8, with or without byte order mark; gzip where the name
            ends in .gz.

    Yields:
        Records in the file's order.

    Raises:
        InputError: The file cannot be read, is not JSON, or has none of the forms. The message
            names file and place, what was found and which forms there are.
    """
    yield from read_document(file, read_text(file))


def read_document(file: Path, text: str) -> Iterator[Record]:
    """Read the text of a file of questions, as read_records does.

    Args:
        file: Its name, for messages.
        text: All of it.

    Yields:
        Records in the file's order.

    Raises:
        InputError: As in read_records.
    """
    try:
        for place, entry in _entries(file, text):
            yield from _records(entry, place)
    except StructureError as error:
        raise InputError(f"{file}: {error}") from None


def kind_of(value: Any) -> str:
    """Name a JSON value's type, for messages."""
    return _KINDS[type(value)]


def member(parent: Any, place: str, key: str, kind: type) -> Any:
    """Return parent[key].

    Args:
        parent: An object, supposedly.
        place: Where it stands.
        key: The member wanted.
        kind: The type wanted: dict, list, str or int.

    Returns:
        The value.

    Raises:
        StructureError: There is no such member, or it is of another type.
    """
    if not isinstance(parent, dict):
        raise StructureError(f"{place}: got {kind_of(parent)}, want an object")
    if key not in parent:
        raise StructureError(f"{place}.{key}: is missing, want {_KINDS[kind]}")
    value = parent[key]
    # A boolean is an int to Python, but not to JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise StructureError(f"{place}.{key}: got {kind_of(value)}, want {_KINDS[kind]}")
    return value


def _entries(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield articles or flat records, with their places."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        # A whole value, and then another one: lines of JSON.
        if error.msg == "Extra data" and text.count("\n", 0, error.pos):
            yield from _lines(file, text)
            return
        raise InputError(
            f"{file}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (RecursionError, ValueError) as error:  # Nested too deep, or a number of 5,000 digits.
        raise InputError(f"{file}: JSON that cannot be read: {error}") from None
    if isinstance(document, list):
        yield from _numbered(document, "")
    elif isinstance(document, dict) and "data" in document:
        yield from _numbered(member(document, "the document", "data", list), "data")
    elif isinstance(document, dict) and {"question", "context", "paragraphs"} & document.keys():
        yield "line 1", document
    else:
        raise StructureError(f"the document: got {_found(document)}; want {_FORMS}")


def _numbered(values: list[Any], name: str) -> Iterator[tuple[str, Any]]:
    for index, value in enumerate(values):
        yield f"{name}[{index}]", value


def _lines(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines, which takes a Unicode separator inside a text for a line's end.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (RecursionError, ValueError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise InputError(f"{file}, line {number}: is not valid JSON: {reason}") from None
        yield f"line {number}", value


def _records(entry: Any, place: str) -> Iterator[Record]:
    """Yield the questions of an article, or the one of a flat record."""
    if not isinstance(entry, dict):
        raise StructureError(f"{place}: got {kind_of(entry)}, want an object")
    if "paragraphs" in entry:
        for index, paragraph in enumerate(member(entry, place, "paragraphs", list)):
            at_paragraph = f"{place}.paragraphs[{index}]"
            context = member(paragraph, at_paragraph, "context", str)
            for number, fields in enumerate(member(paragraph, at_paragraph, "qas", list)):
                at_question = f"{at_paragraph}.qas[{number}]"
                if not isinstance(fields, dict):
                    raise StructureError(f"{at_question}: got {kind_of(fields)}, want an object")
                yield Record(at_question, fields, entry.get("title"), context)
    elif "question" in entry or "context" in entry:
        yield Record(place, entry, entry.get("title"), None)
    else:
        raise StructureError(f"{place}: got {_found(entry)}; want {_NESTED} or {_FLAT}")


def _found(value: Any) -> str:
    if not isinstance(value, dict):
        return kind_of(value)
    names = ", ".join(map(reprlib.repr, list(value)[:10])) + (", ..." if len(value) > 10 else "")
    return f"an object with {names}" if value else "an empty object"
