"""The official SQuAD files: questions in (v1.1 and v2.0, plain or .gz), predictions out.

Source: Rajpurkar et al. 2016, arXiv:1606.05250 (v1.1); 2018, arXiv:1806.03822 (v2.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.files import atomic_write_json, read_text

__all__ = ["SquadExample", "read_squad", "write_predictions"]

_KINDS = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "a boolean"}


@dataclass(frozen=True, slots=True)
class SquadExample:
    """One question of a SQuAD file.

    Attributes:
        id: The official id, unique in the file.
        title: The article's title; "" where the file has none.
        question: The question.
        context: The paragraph; all its questions share one string.
        answers: Gold answers, in the file's order and with its repetitions.
        answer_starts: For every gold answer, its first character in the context.
        is_impossible: Whether the context does not answer the question (v2.0).
    """

    id: str
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    is_impossible: bool


def read_squad(path: str | Path) -> list[SquadExample]:
    """Read all questions of a SQuAD file.

    Args:
        path: The file, v1.1 or v2.0; gzip where the name ends in .gz.

    Returns:
        The questions in the file's order, at least one.

    Raises:
        InputError: The file is missing, not what its name says, no JSON, not in the form of
            SQuAD, without questions, or has an id twice. The message names file and place.
    """
    file = Path(path)
    document = _read_json(file)
    try:
        examples = list(_examples(document))
    except _StructureError as error:
        raise InputError(f"{file}: {error}") from None
    if not examples:
        raise InputError(f"{file}: got 0 questions, want at least 1")
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise InputError(f"{file}: got the id {example.id!r} twice, want unique ids")
        seen.add(example.id)
    return examples


def write_predictions(path: str | Path, predictions: Mapping[str, str]) -> None:
    """Write predictions in the official form, {id: text}, whole or not at all.

    Args:
        path: The file to write; one that is there is replaced.
        predictions: Answer text by question id; "" for no answer.

    Raises:
        OSError: The file cannot be written; nothing half-written is left behind.
    """
    atomic_write_json(path, dict(predictions))


def _read_json(file: Path) -> Any:
    text = read_text(file)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (RecursionError, ValueError) as error:  # Nested too deep, or a number of 5,000 digits.
        raise InputError(f"{file}: JSON that cannot be read: {error}") from None


class _StructureError(Exception):
    """The document is not in the form of SQuAD; the message names the place."""


def _get(parent: Any, place: str, key: str, kind: type) -> Any:
    """Return parent[key], checked to be of a kind."""
    where = f"{place}.{key}" if place else key
    if not isinstance(parent, dict):
        got = _KINDS.get(type(parent), repr(parent))
        raise _StructureError(f"{place or 'the document'}: got {got}, want an object")
    if key not in parent:
        raise _StructureError(f"{where}: is missing, want {_KINDS[kind]}")
    value = parent[key]
    # A boolean is an int to Python, but not to JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        got = _KINDS.get(type(value), repr(value))
        raise _StructureError(f"{where}: got {got}, want {_KINDS[kind]}")
    return value


def _examples(document: Any) -> Iterator[SquadExample]:
    for article_index, article in enumerate(_get(document, "", "data", list)):
        at_article = f"data[{article_index}]"
        paragraphs = _get(article, at_article, "paragraphs", list)
        title = _get(article, at_article, "title", str) if "title" in article else ""
        for paragraph_index, paragraph in enumerate(paragraphs):
            at_paragraph = f"{at_article}.paragraphs[{paragraph_index}]"
            context = _get(paragraph, at_paragraph, "context", str)
            for index, entry in enumerate(_get(paragraph, at_paragraph, "qas", list)):
                yield _example(entry, f"{at_paragraph}.qas[{index}]", title, context)


def _example(entry: Any, place: str, title: str, context: str) -> SquadExample:
    identifier = _get(entry, place, "id", str)
    question = _get(entry, place, "question", str)
    texts, starts = [], []
    for index, answer in enumerate(_get(entry, place, "answers", list)):
        at_answer = f"{place}.answers[{index}]"
        texts.append(_get(answer, at_answer, "text", str))
        starts.append(_get(answer, at_answer, "answer_start", int))
        if not 0 <= starts[-1] <= len(context):
            raise _StructureError(
                f"{at_answer}.answer_start: got {starts[-1]}, want a position in the context "
                f"(0 to {len(context)})"
            )
    is_impossible = not texts
    if "is_impossible" in entry:
        is_impossible = _get(entry, place, "is_impossible", bool)
    if is_impossible and texts:
        raise _StructureError(f"{place}.is_impossible: got true, want false beside gold answers")
    return SquadExample(
        id=identifier,
        title=title,
        question=question,
        context=context,
        answers=tuple(texts),
        answer_starts=tuple(starts),
        is_impossible=is_impossible,
    )
