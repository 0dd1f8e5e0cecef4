"""Questions as a file in the official form of SQuAD v2.0."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from bert_rt.support.files import atomic_write_bytes
from bert_rt.tasks.question_answering.squad import SquadExample

__all__ = ["squad_document", "write_squad"]


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
