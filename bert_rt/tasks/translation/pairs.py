"""Parallel text: sources with their translations, in one file or in a file a language.

    train.jsonl         {"source": "A dog.", "target": "Ein Hund."} a line; also the Hugging Face
                        form {"translation": {"en": "A dog.", "de": "Ein Hund."}}
    train.tsv, .csv     columns source and target, or named by their languages
    train               a file a language beside it: train.en and train.de, a text a line

All with or without .gz behind. Everything that can be wrong with a line is looked for when its
file is read, and reported at once.
"""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_rt.errors import ConfigError, InputError
from bert_rt.support.faults import Dropped, Faults
from bert_rt.support.files import read_text
from bert_rt.support.flags import flag
from bert_rt.support.tables import READERS
from bert_rt.tasks.texts import text_fault

__all__ = ["PairLayout", "SentencePair", "pair_files", "read_pairs"]

# Longer than any sentence; documents are split before they are translated.
_MAX_CHARS = 100_000
_NESTED = "translation"


@dataclass(frozen=True, kw_only=True)
class PairLayout:
    """Which languages files of pairs hold, where their fields or names say so.

    Attributes:
        source_lang: Language of the texts, as files name it, such as "en".
        target_lang: Language of their translations.
    """

    source_lang: str | None = field(
        default=None, metadata=flag(metavar="LANG", help="such as en, for train.en beside train.de")
    )
    target_lang: str | None = field(default=None, metadata=flag(metavar="LANG"))

    def __post_init__(self) -> None:
        """Check that both are named or none.

        Raises:
            ConfigError: One is missing, or both are the same.
        """
        if (self.source_lang is None) != (self.target_lang is None):
            missing = "source_lang" if self.source_lang is None else "target_lang"
            raise ConfigError(f"{missing}: got nothing, want both languages or none")
        if self.source_lang is not None and self.source_lang == self.target_lang:
            raise ConfigError(f"target_lang: got {self.target_lang!r}, which is source_lang, too")

    @property
    def languages(self) -> tuple[str, str] | None:
        """Both languages; None where none is named."""
        if self.source_lang is None or self.target_lang is None:
            return None
        return self.source_lang, self.target_lang


@dataclass(frozen=True, slots=True)
class SentencePair:
    """A text and its translation.

    Attributes:
        source: The text.
        target: The translation.
        place: File and line, for messages.
    """

    source: str
    target: str
    place: str


def pair_files(path: str | Path, layout: PairLayout) -> tuple[Path, ...]:
    """Find the files that a name stands for.

    Args:
        path: A file of pairs; or what the names of two files, one a language, have in common:
            train for train.en and train.de, or train.en.gz and train.de.gz.
        layout: The languages.

    Returns:
        One file, or that of the source and that of the target.

    Raises:
        InputError: There is no such file, or only that of one language.
    """
    file = Path(path)
    if file.is_file() or _kind(file) in READERS:
        return (file,)
    if layout.languages is None:
        raise InputError(
            f"{file}: no such file; where it stands for a file a language, --source_lang and "
            "--target_lang name these"
        )
    found = []
    for language in layout.languages:
        names = [file.with_name(f"{file.name}.{language}{end}") for end in ("", ".gz")]
        there = [name for name in names if name.is_file()]
        if len(there) != 1:
            got = "both" if there else "none"
            raise InputError(f"{file}: got {got} of {names[0]} and {names[1].name}, want one")
        found += there
    return tuple(found)


def read_pairs(
    path: str | Path, layout: PairLayout, *, dropped: Dropped | None = None
) -> list[SentencePair]:
    """Read all pairs of a file, or of two files.

    Args:
        path: As in pair_files. Of a single file the end of its name says how it is read: .jsonl,
            .json, .tsv or .csv, perhaps with .gz.
        layout: The languages, where fields or files are named by them.
        dropped: Counts pairs that cannot be used and are left out, with a warning; None: each of
            them is an error.

    Returns:
        The pairs in the files' order, at least one.

    Raises:
        InputError: A file cannot be read or is named otherwise, two files differ in their number
            of lines, a field is missing, or a text is empty. The message names file and lines;
            faults of several lines are listed together.
    """
    files = pair_files(path, layout)
    faults = Faults(files[0], dropped)
    rows = _parallel_rows(*files) if len(files) == 2 else _table_rows(files[0], layout)
    pairs = []
    total = 0
    for line, row in rows:
        total += 1
        fault = row if isinstance(row, str) else _fault(*row)
        if isinstance(row, str) or fault is not None:
            faults.add(f"line {line}: {fault}")
            faults.drop(items=1)
        else:
            source, target = row
            pairs.append(SentencePair(source, target, f"{files[0]}, line {line}"))
    faults.close(total, "pairs")
    return pairs


def _fault(source: Any, target: Any) -> str | None:
    for name, text in (("source", source), ("target", target)):
        fault = text_fault(name, text, max_chars=_MAX_CHARS)
        if fault is not None:
            return fault
    return None


def _kind(file: Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[2].lower()


def _parallel_rows(
    source_file: Path, target_file: Path
) -> Iterator[tuple[int, tuple[str, str] | str]]:
    """Yield the lines of two files, with their numbers from 1."""
    sources, targets = (_lines(file) for file in (source_file, target_file))
    if len(sources) != len(targets):
        raise InputError(
            f"{source_file}: got {len(sources)} lines, and {target_file.name} has {len(targets)}; "
            "want as many, the translation of each line in the same line"
        )
    yield from enumerate(zip(sources, targets, strict=True), 1)


def _lines(file: Path) -> list[str]:
    # Not splitlines, which takes a form feed or a Unicode separator inside a text for a line's end.
    lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    return lines if lines[-1] else lines[:-1]


def _table_rows(file: Path, layout: PairLayout) -> Iterator[tuple[int, tuple[Any, Any] | str]]:
    kind = _kind(file)
    if kind not in READERS:
        raise InputError(
            f"{file}: got a name that ends in {kind!r}, want {', '.join(READERS)}, or one of them "
            "and .gz; of two files that hold a language each, give what their names begin with"
        )
    rows = READERS[kind](file, read_text(file))
    for line, row in rows:
        yield line, row if isinstance(row, str) else _fields(row, layout)


def _fields(row: Mapping[str, Any], layout: PairLayout) -> tuple[Any, Any] | str:
    """Pick both texts of a row; or say why there are none."""
    nested = row.get(_NESTED)
    names: list[tuple[str, str]] = [("source", "target")]
    if layout.languages is not None:
        names.insert(0, layout.languages)
    for fields, (source, target) in itertools.product((nested, row), names):
        if isinstance(fields, Mapping) and source in fields and target in fields:
            return fields[source], fields[target]
    shown = nested if isinstance(nested, Mapping) else row
    want = " or ".join(f"{source!r} and {target!r}" for source, target in reversed(names))
    advice = "" if layout.languages else ", or --source_lang and --target_lang to name them"
    return f"got the fields {reprlib.repr(sorted(shown))}, want {want}{advice}"
