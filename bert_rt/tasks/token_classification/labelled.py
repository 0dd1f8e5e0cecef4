"""Labelled words: JSON Lines with a list of words and a list of labels each, as CoNLL's sentences.

    {"words": ["Peter", "lives", "in", "Paris"], "tags": ["B-PER", "O", "O", "B-LOC"]}

Everything that can be wrong with a line is looked for when its file is read, and reported at once.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.model.labels import class_index
from bert_rt.support.faults import Dropped, Faults, listed
from bert_rt.support.files import read_text
from bert_rt.support.tables import READERS
from bert_rt.tasks.texts import MAX_TEXT_CHARS, text_fault
from bert_rt.tasks.token_classification.chunks import split_label
from bert_rt.tasks.token_classification.layout import WordFields

__all__ = ["LabelledWords", "read_labelled", "tag_indices", "tag_names"]

_WORDS = ("words", "tokens")
_TAGS = ("tags", "ner_tags", "labels")


@dataclass(frozen=True, slots=True)
class LabelledWords:
    """One line of a file.

    Attributes:
        words: The words.
        tags: The label of each as the file names it; an integer of JSON as its decimal digits.
        place: File and line, for messages.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    place: str


def read_labelled(
    path: str | Path, fields: WordFields | None = None, *, dropped: Dropped | None = None
) -> list[LabelledWords]:
    """Read all lines of a file.

    Args:
        path: A .jsonl or .json file with one object a line, or one of these with .gz behind.
        fields: Which fields of the objects hold what.
        dropped: Counts lines that cannot be used and are left out, with a warning; None: each of
            them is an error.

    Returns:
        The lines in the file's order, at least one.

    Raises:
        InputError: The file cannot be read or is named otherwise, a field is missing, words are
            empty, or there are more or fewer labels than words. The message names file and lines;
            faults of several lines are listed together.
    """
    file = Path(path)
    kind = file.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in ("jsonl", "json"):
        raise InputError(
            f"{file}: got a name that ends in {kind!r}, want .jsonl or .json, or that and .gz"
        )
    fields = fields or WordFields()
    faults = Faults(file, dropped)
    result = []
    total = 0
    for line, row in READERS[kind](file, read_text(file)):
        total += 1
        try:
            if isinstance(row, str):
                raise InputError(row)
            result.append(_example(row, fields, f"{file}, line {line}"))
        except InputError as error:
            faults.add(f"line {line}: {error}")
            faults.drop(items=1)
    faults.close(total, "lines")
    return result


def tag_names(examples: Sequence[LabelledWords]) -> tuple[str, ...]:
    """Collect the labels of training data.

    Args:
        examples: The lines.

    Returns:
        Every label once: "O" first, then by the kind of entity and the place within.

    Raises:
        InputError: There are less than two.
    """
    names = {tag for example in examples for tag in example.tags}
    if len(names) < 2:
        raise InputError(
            f"tags: got {len(names)} label ({', '.join(map(repr, names))}), want at least 2"
        )
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names, key=lambda name: (split_label(name)[1], name)))


def tag_indices(examples: Sequence[LabelledWords], names: Sequence[str]) -> list[list[int]]:
    """Find the labels of all words among a model's.

    Args:
        examples: The lines.
        names: The labels' names in the order of the logits.

    Returns:
        For every line the index of each word's label.

    Raises:
        InputError: Labels are none of the model's; the message names each, with file and line.
    """
    first: dict[str, str] = {}
    for example in examples:
        for tag in example.tags:
            first.setdefault(tag, example.place)
    index_of = {tag: class_index(tag, names) for tag in first}
    faults = [
        f"{first[tag]}: tags: got {reprlib.repr(tag)}"
        for tag, index in index_of.items()
        if index is None
    ]
    if faults:
        shown = ", ".join(map(reprlib.repr, names[:10]))
        raise InputError(
            f"{listed(faults)}, want labels among the model's {len(names)}: {shown}"
            f"{', ...' if len(names) > 10 else ''}"
        )
    known = {tag: index for tag, index in index_of.items() if index is not None}
    return [[known[tag] for tag in example.tags] for example in examples]


def _example(row: Mapping[str, Any], fields: WordFields, place: str) -> LabelledWords:
    words_name, words = _list_of(row, fields.words_field, _WORDS, "--words_field")
    tags_name, tags = _list_of(row, fields.tags_field, _TAGS, "--tags_field")
    if not words:
        raise InputError(f"{words_name}: got none, want at least one word")
    if len(tags) != len(words):
        raise InputError(f"{tags_name}: got {len(tags)} for {len(words)} words, want as many")
    for index, word in enumerate(words):
        fault = text_fault(f"{words_name}[{index}]", word, max_chars=MAX_TEXT_CHARS)
        if fault is not None:
            raise InputError(fault)
    return LabelledWords(
        tuple(words), tuple(_tag(tags_name, i, t) for i, t in enumerate(tags)), place
    )


def _list_of(
    row: Mapping[str, Any], given: str | None, usual: Sequence[str], flag: str
) -> tuple[str, list[Any]]:
    """Return the name of a field and its list."""
    found = [name for name in ((given,) if given else usual) if name in row]
    if len(found) != 1:
        want = repr(given) if given else f"{' or '.join(map(repr, usual))} among them, or {flag}"
        raise InputError(f"got the fields {reprlib.repr(sorted(row))}; want {want}")
    (name,) = found
    if not isinstance(row[name], list):
        raise InputError(f"{name}: got {reprlib.repr(row[name])}, want a list")
    return name, row[name]


def _tag(name: str, index: int, value: Any) -> str:
    tag = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(tag, str) or not tag.strip():
        got = reprlib.repr(value)
        raise InputError(f"{name}[{index}]: got {got}, want a label's name or number")
    return tag.strip()
