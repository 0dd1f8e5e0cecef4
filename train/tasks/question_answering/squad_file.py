"""What commands that make a SQuAD file of another one have alike: flags, and how it is written."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from bert_rt.errors import ConfigError
from bert_rt.support.cli import add_drop_flag, add_json_flag, int_at_least, writable_path
from bert_rt.support.files import atomic_write_bytes
from bert_rt.tasks.question_answering.squad import SquadExample

__all__ = ["add_file_flags", "check_files", "output_path", "squad_document", "write_squad"]


def add_file_flags(parser: argparse.ArgumentParser) -> None:
    """Add --train_file, --output_file, --seed, --drop_invalid and --json."""
    parser.add_argument("--train_file", required=True, metavar="F", type=Path)
    parser.add_argument("--output_file", required=True, metavar="OUT", type=output_path)
    parser.add_argument("--seed", type=int_at_least(0), default=0, metavar="N")
    add_drop_flag(parser)
    add_json_flag(parser)


def output_path(text: str) -> Path:
    """Return the path of a file that can be written, as an argument's type."""
    return Path(writable_path(text))


def check_files(**files: Path | None) -> None:
    """Refuse to write over a file that is read, or two files in one place.

    Args:
        **files: By flag, those that are read first; None for one that was not asked for.

    Raises:
        ConfigError: Two flags name the same file.
    """
    seen: dict[Path, str] = {}
    for flag, file in files.items():
        if file is None:
            continue
        other = seen.setdefault(file.resolve(), flag)
        if other != flag:
            raise ConfigError(f"{flag}: got {file}, which is the {other}, too")


def squad_document(examples: Iterable[SquadExample]) -> dict[str, Any]:
    """Put questions into the official form of SQuAD v2.0.

    Args:
        examples: Questions; those with the same title that follow each other are an article.

    Returns:
        What json.dumps takes. Within an article each paragraph stands once, with all its questions.
    """
    data = []
    for title, group in groupby(examples, key=lambda example: example.title):
        paragraphs: dict[str, list[dict[str, Any]]] = {}
        for example in group:
            answers = [
                {"text": text, "answer_start": start}
                for text, start in zip(example.answers, example.answer_starts, strict=True)
            ]
            paragraphs.setdefault(example.context, []).append(
                {
                    "id": example.id,
                    "question": example.question,
                    "answers": answers,
                    "is_impossible": example.is_impossible,
                }
            )
        entries = [{"context": context, "qas": qas} for context, qas in paragraphs.items()]
        data.append({"title": title, "paragraphs": entries})
    return {"version": "v2.0", "data": data}


def write_squad(file: Path, examples: Iterable[SquadExample]) -> None:
    """Write questions, whole or not at all; compressed where the file ends in .gz.

    The same questions are the same bytes.

    Args:
        file: The file, which is replaced.
        examples: As squad_document takes them.

    Raises:
        OSError: It cannot be written.
    """
    data = (json.dumps(squad_document(examples)) + "\n").encode("ascii")
    # No time in the header.
    atomic_write_bytes(file, gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)
