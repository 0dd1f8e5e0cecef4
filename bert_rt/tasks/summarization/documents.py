"""Documents with their summaries: JSON Lines with a text and one summary or several.

    {"text": "A first sentence. A second one.", "summary": "What it says."}

Everything that can be wrong with a line is looked for when its file is read, and reported at once.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.faults import Dropped, Faults
from bert_rt.support.files import read_text
from bert_rt.support.tables import READERS
from bert_rt.tasks.texts import MAX_TEXT_CHARS, text_fault

__all__ = ["SummarizedText", "read_documents"]

_TEXTS = ("text", "document", "article", "source")
_SUMMARIES = ("summary", "summaries", "target", "highlights")


@dataclass(frozen=True, slots=True)
class SummarizedText:
    """One line of a file.

    Attributes:
        text: The document; of a list of sentences these with single spaces between them.
        references: Its summaries, at least one.
        place: File and line, for messages.
    """

    text: str
    references: tuple[str, ...]
    place: str


def read_documents(path: str | Path, *, dropped: Dropped | None = None) -> list[SummarizedText]:
    """Read all lines of a file.

    Args:
        path: A .jsonl or .json file with one object a line, or one of these with .gz behind. The
            text is called text, document, article or source, and is a string or a list of
            sentences; the summary is called summary, summaries, target or highlights, and is a
            string or a list of several.
        dropped: Counts lines that cannot be used and are left out, with a warning; None: each of
            them is an error.

    Returns:
        The lines in the file's order, at least one.

    Raises:
        InputError: The file cannot be read or is named otherwise, a field is missing, or a text is
            empty. The message names file and lines; faults of several lines are listed together.
    """
    file = Path(path)
    kind = file.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind not in ("jsonl", "json"):
        raise InputError(
            f"{file}: got a name that ends in {kind!r}, want .jsonl or .json, or that and .gz"
        )
    faults = Faults(file, dropped)
    result = []
    total = 0
    for line, row in READERS[kind](file, read_text(file)):
        total += 1
        try:
            if isinstance(row, str):
                raise InputError(row)
            text = " ".join(_strings(row, _TEXTS))
            references = tuple(_strings(row, _SUMMARIES))
            result.append(SummarizedText(text, references, f"{file}, line {line}"))
        except InputError as error:
            faults.add(f"line {line}: {error}")
            faults.drop(items=1)
    faults.close(total, "lines")
    return result


def _strings(row: Mapping[str, Any], usual: Sequence[str]) -> list[str]:
    found = [name for name in usual if name in row]
    if len(found) != 1:
        want = " or ".join(map(repr, usual))
        raise InputError(f"got the fields {reprlib.repr(sorted(row))}; want one of {want}")
    (name,) = found
    values = row[name] if isinstance(row[name], list) else [row[name]]
    if not values:
        raise InputError(f"{name}: got none, want at least one")
    for index, value in enumerate(values):
        place = f"{name}[{index}]" if isinstance(row[name], list) else name
        fault = text_fault(place, value, max_chars=MAX_TEXT_CHARS)
        if fault is not None:
            raise InputError(fault)
    return values
