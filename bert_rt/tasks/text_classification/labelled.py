"""Labelled texts: rows of TSV, CSV or JSON Lines to texts and classes, columns by name.

Everything that can be wrong with a row is looked for when its file is read, and reported at once.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.model.labels import class_index
from bert_rt.support.faults import Dropped, Faults, listed
from bert_rt.support.files import read_text
from bert_rt.support.tables import READERS
from bert_rt.tasks.forms.rows import ColumnsError, check_columns
from bert_rt.tasks.text_classification.rows import Columns, text_columns
from bert_rt.tasks.text_classification.sequences import make_sequences
from bert_rt.tasks.texts import MAX_TEXT_CHARS, text_fault
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput, TokenSequence

__all__ = [
    "LabelledText",
    "class_indices",
    "class_names",
    "encode_labelled",
    "read_labelled",
]


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One row of a file.

    Attributes:
        input: The text or the pair.
        label: The class as the file names it; an integer of JSON as its decimal digits. Of other
            kinds of labels the text that bert_rt.tasks.text_classification.targets makes of them.
        place: File and line, for messages.
    """

    input: TextInput
    label: str
    place: str


def read_labelled(
    path: str | Path,
    columns: Columns | None = None,
    *,
    read_label: Callable[[Any], str] | None = None,
    dropped: Dropped | None = None,
) -> list[LabelledText]:
    """Read all rows of a file.

    Args:
        path: A .tsv, .csv, .jsonl or .json file (the latter two with one object a line), or one
            of these with .gz behind.
        columns: Which columns hold what.
        read_label: Checks a row's label and gives its text; raises InputError. None for the name
            or the number of one class.
        dropped: Counts rows that cannot be used and are left out, with a warning; None: each of
            them is an error.

    Returns:
        The rows in the file's order, at least one.

    Raises:
        InputError: The file cannot be read or is named otherwise, a column is missing, rows have
            another number of fields than the first line, texts are empty, labels are none, or JSON
            is broken. The message names file and lines; faults of several rows are listed together.
    """
    file = Path(path)
    kind = file.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in READERS:
        known = ", ".join(f".{name}" for name in READERS)
        raise InputError(f"{file}: got a name that ends in {kind!r}, want {known}, or that and .gz")
    columns = columns or Columns()
    faults = Faults(file, dropped)
    result = []
    total = 0
    for line, row in READERS[kind](file, read_text(file)):
        total += 1
        messages = [row] if isinstance(row, str) else []
        if not isinstance(row, str):
            try:
                example, messages = _example(
                    row, columns, f"{file}, line {line}", read_label or _label
                )
            except ColumnsError as error:
                # All rows of a table have the columns of its first line.
                if kind != "jsonl":
                    raise InputError(f"{file}, line {line}: {error}") from None
                messages = [str(error)]
        for message in messages:
            faults.add(f"line {line}: {message}")
        if messages:
            faults.drop(items=1)
        else:
            result.append(example)
    faults.close(total, "rows")
    return result


def class_names(examples: Sequence[LabelledText]) -> tuple[str, ...]:
    """Collect the classes of training data.

    Args:
        examples: The rows.

    Returns:
        Every label once: integers by their value, else in alphabetical order.

    Raises:
        InputError: There are less than two.
    """
    names = {example.label for example in examples}
    if len(names) < 2:
        raise InputError(
            f"label: got {len(names)} class ({', '.join(map(repr, names))}), want at least 2"
        )
    # "01" and "1" are two names of one number, and so are names.
    are_numbers = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


def class_indices(examples: Sequence[LabelledText], names: Sequence[str]) -> list[int]:
    """Find the labels of rows among a model's classes.

    Args:
        examples: The rows.
        names: The classes' names in the order of the logits.

    Returns:
        The class of every row.

    Raises:
        InputError: Labels are none of the classes; the message names each, with file and line.
    """
    places = {label: class_index(label, names) for label in {e.label for e in examples}}
    unknown = [e for e in examples if places[e.label] is None]
    if unknown:
        first: dict[str, LabelledText] = {}
        for example in unknown:
            first.setdefault(example.label, example)
        faults = [f"{e.place}: label: got {reprlib.repr(label)}" for label, e in first.items()]
        more = f" ({len(unknown)} rows have such labels)" if len(unknown) > len(faults) else ""
        raise InputError(
            f"{listed(faults)}{more}, want one of the model's {len(names)} classes: "
            f"{_listed(names)}"
        )
    return [index for e in examples if (index := places[e.label]) is not None]


def encode_labelled(
    examples: Sequence[LabelledText],
    tokenizer: Tokenizer,
    *,
    max_seq_length: int,
    num_token_types: int = 2,
) -> list[TokenSequence]:
    """Tokenize rows, all together.

    Args:
        examples: The rows.
        tokenizer: The model's.
        max_seq_length: Most tokens of a sequence; what is longer is cut off.
        num_token_types: How many the model has (BertConfig.num_token_types).

    Returns:
        The model's input of every row.

    Raises:
        EmptyInputError: A text has no token; the message names file and line.
        InputError: There is a second text, and the model has no token type for it.
    """
    sequences: list[TokenSequence] = []
    inputs = [example.input for example in examples]
    try:
        sequences.extend(
            make_sequences(
                inputs,
                tokenizer,
                max_seq_length=max_seq_length,
                num_token_types=num_token_types,
            )
        )
    except InputError as error:
        # What came before the bad row has been taken.
        raise type(error)(f"{examples[len(sequences)].place}: {error}") from None
    return sequences


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(reprlib.repr, names[:10]))
    return shown + (", ..." if len(names) > 10 else "")


def _example(
    row: Mapping[str, Any], columns: Columns, place: str, read_label: Callable[[Any], str]
) -> tuple[LabelledText, list[str]]:
    """Make an example of a row, and say what is wrong with it."""
    texts = [_field(row, name) for name in text_columns(row.keys(), columns)]
    _, value = _field(row, columns.label_column)
    checked = [text_fault(name, text, max_chars=MAX_TEXT_CHARS) for name, text in texts]
    faults = [fault for fault in checked if fault is not None]
    label = ""
    try:
        label = read_label(value)
    except InputError as error:
        faults.append(str(error))
    return LabelledText(TextInput(*(text for _, text in texts)), label, place), faults


def _field(row: Mapping[str, Any], name: str) -> tuple[str, Any]:
    check_columns(row.keys(), [name])
    return name, row[name]


def _label(value: Any) -> str:
    """Return the class as text; raises InputError for what is no name or number of a class."""
    name = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"label: got {reprlib.repr(value)}, want a class's name or number")
    return name.strip()
