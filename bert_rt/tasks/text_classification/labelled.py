"""Labelled texts: TSV, CSV and JSON Lines in, plain or .gz, columns by name.

TSV is read as GLUE and most data sets write it: a tab ends a field, a newline a row, and quotes
are only characters. In CSV quotes are what RFC 4180 says. The first line of both names the columns.
"""

from __future__ import annotations

import csv
import io
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from bert_rt.errors import InputError
from bert_rt.model.config import Columns
from bert_rt.support.files import read_text
from bert_rt.support.strict_json import parse_json
from bert_rt.tasks.question_answering.features import MAX_CONTEXT_CHARS, check_text, make_sequences
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import TextInput, TokenSequence

__all__ = [
    "LabelledText",
    "class_index",
    "class_indices",
    "class_names",
    "encode_labelled",
    "read_labelled",
]

_TEXT_COLUMNS = ("sentence", "text")
_MAX_LINE_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One row of a file.

    Attributes:
        input: The text or the pair.
        label: The class as the file names it; an integer of JSON as its decimal digits.
        place: File and line, for messages.
    """

    input: TextInput
    label: str
    place: str


def read_labelled(path: str | Path, columns: Columns | None = None) -> list[LabelledText]:
    """Read all rows of a file.

    Args:
        path: A .tsv, .csv or .jsonl file, or one of these with .gz behind.
        columns: Which columns hold what.

    Returns:
        The rows in the file's order, at least one.

    Raises:
        InputError: The file cannot be read or is named otherwise, a column is missing, a row has
            another number of fields than the first line, a text is empty, or JSON is broken. The
            message names file and line.
    """
    file = Path(path)
    kind = file.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in _READERS:
        known = ", ".join(f".{name}" for name in _READERS)
        raise InputError(f"{file}: got a name that ends in {kind!r}, want {known}, or that and .gz")
    columns = columns or Columns()
    result = []
    for line, row in _READERS[kind](file, read_text(file)):
        place = f"{file}, line {line}"
        texts = [_field(row, name, place) for name in _text_columns(row, columns, place)]
        for name, text in texts:
            check_text(f"{place}: {name}", text, max_chars=MAX_CONTEXT_CHARS)
        _, label = _field(row, columns.label, place)
        result.append(LabelledText(TextInput(*(t for _, t in texts)), _label(label, place), place))
    if not result:
        raise InputError(f"{file}: got 0 rows, want at least 1")
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


def class_index(label: str, names: Sequence[str]) -> int | None:
    """Find a label among a model's classes.

    Args:
        label: As a file has it.
        names: The classes' names in the order of the logits.

    Returns:
        The place of the name; or, where no class is named by a number, the number that the label
        is, since many data sets number the classes that a model names. None where it is neither.
    """
    if label in names:
        return names.index(label)
    if any(name.isdigit() for name in names) or not (label.isascii() and label.isdigit()):
        return None
    # The length first: turning a million digits into a number takes a while.
    return int(label) if len(label) < 7 and int(label) < len(names) else None


def class_indices(examples: Sequence[LabelledText], names: Sequence[str]) -> list[int]:
    """Find the labels of rows among a model's classes.

    Args:
        examples: The rows.
        names: The classes' names in the order of the logits.

    Returns:
        The class of every row.

    Raises:
        InputError: A label is none of the classes; the message names file and line.
    """
    places = {label: class_index(label, names) for label in {e.label for e in examples}}
    result = []
    for example in examples:
        index = places[example.label]
        if index is None:
            raise InputError(
                f"{example.place}: label: got {reprlib.repr(example.label)}, want one of the "
                f"model's {len(names)} classes: {_listed(names)}"
            )
        result.append(index)
    return result


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


def _read_tsv(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Not splitlines, which takes a form feed or a Unicode separator inside a text for a line's end.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    rows = ((number, line.split("\t")) for number, line in enumerate(lines, 1) if line)
    return _with_header(file, rows)


def _read_csv(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return _with_header(file, _csv_rows(file, text))


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{file}, line {line}: is not valid CSV: {error}") from None


def _with_header(
    file: Path, rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    line, header = next(rows, (1, []))
    if len(set(header)) != len(header):
        raise InputError(f"{file}, line {line}: got a column twice in {header}, want unique names")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{file}, line {line}: got {len(row)} fields, want {len(header)}, as many as the "
                "first line has"
            )
        yield line, dict(zip(header, row, strict=True))


def _read_jsonl(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line.encode(), max_bytes=_MAX_LINE_BYTES)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{file}, line {number}: got {type(row).__name__}, want an object")
        yield number, row


_READERS = {"tsv": _read_tsv, "csv": _read_csv, "jsonl": _read_jsonl}


def _text_columns(row: Mapping[str, Any], columns: Columns, place: str) -> list[str]:
    """Return the names of the one or two columns of text."""
    text = columns.text
    if text is None:
        found = [name for name in _TEXT_COLUMNS if name in row]
        if len(found) != 1:
            want = " or ".join(map(repr, _TEXT_COLUMNS))
            _refuse_columns(row, place, f"{want} among them, or --text_column")
        (text,) = found
    return [text] if columns.text_pair is None else [text, columns.text_pair]


def _field(row: Mapping[str, Any], name: str, place: str) -> tuple[str, Any]:
    if name not in row:
        _refuse_columns(row, place, f"{name!r} among them")
    return name, row[name]


def _refuse_columns(row: Mapping[str, Any], place: str, want: str) -> NoReturn:
    raise InputError(f"{place}: got the columns {_listed(list(row))}; want {want}")


def _label(value: Any, place: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"{place}: label: got {reprlib.repr(value)}, want a class's name or number"
        )
    return value.strip()
