"""Questions with gold answers: SQuAD files and their flat kin in, predictions out.

Everything that can be wrong with a question is looked for when its file is read, before any work,
and reported at once.

Source: Rajpurkar et al. 2016, arXiv:1606.05250 (v1.1); 2018, arXiv:1806.03822 (v2.0).
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_rt.support.faults import Dropped, Faults, listed
from bert_rt.support.files import atomic_write_json
from bert_rt.tasks.question_answering.features import MAX_QUESTION_CHARS
from bert_rt.tasks.question_answering.squad_forms import (
    Record,
    StructureError,
    kind_of,
    member,
    read_records,
)
from bert_rt.tasks.texts import MAX_TEXT_CHARS, text_fault

__all__ = ["SquadExample", "misalignment", "read_squad", "write_predictions"]

_log = logging.getLogger(__name__)

# Places of an answer that a message names.
_MAX_PLACES = 3
# Misaligned answers that a warning names.
_MAX_WARNED = 3


@dataclass(frozen=True, slots=True)
class SquadExample:
    """One question of a SQuAD file.

    Attributes:
        id: The official id, unique in the file; a string or an integer, as the file has it.
        title: The article's title; "" where the file has none.
        question: The question.
        context: The paragraph; all its questions share one string.
        answers: Gold answers, in the file's order and with its repetitions.
        answer_starts: For every gold answer, its first character in the context.
        is_impossible: Whether the context does not answer the question (v2.0).
        place: File and id, for messages; "" for what was not read from a file.
    """

    id: str | int
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    is_impossible: bool
    place: str = field(default="", compare=False)


def read_squad(
    path: str | Path, *, dropped: Dropped | None = None, check_positions: bool = False
) -> list[SquadExample]:
    """Read all questions of a file.

    Args:
        path: SQuAD v1.1 or v2.0, flat records as run_qa.py of Transformers reads them, or JSON
            Lines of these; gzip where the name ends in .gz.
        dropped: Counts what cannot be used and is left out, with a warning: misaligned answers,
            questions that keep no gold answer by that, questions with a text that cannot be
            answered. None: each of them is an error.
        check_positions: Whether an answer must stand at its answer_start, as training wants it.
            Where not, a position inside of the context that shows another text is a warning:
            exact match and F1 compare texts only.

    Returns:
        The questions in the file's order, at least one.

    Raises:
        InputError: The file is missing, not what its name says, no JSON, in none of the forms,
            without questions, or has an id twice; or questions cannot be used. The message names
            the file, and the place or the question's id; several faults are listed together.
    """
    file = Path(path)
    reader = _Reader(
        file, Faults(file, dropped), check_positions=check_positions or dropped is not None
    )
    examples = []
    total = 0
    for record in read_records(file):
        total += 1
        try:
            example = reader.example(record)
        except StructureError as error:
            reader.faults.add(str(error), is_droppable=False)
            continue
        if example is not None:
            examples.append(example)
    reader.faults.close(total, "questions")
    if reader.misaligned:
        _log.warning(
            "%s: %d answers do not stand at their answer_start, which exact match and F1 do not "
            "depend on: %s",
            *(file, len(reader.misaligned), listed(reader.misaligned, _MAX_WARNED)),
        )
    return examples


def write_predictions(path: str | Path, predictions: Mapping[Any, str]) -> None:
    """Write predictions in the official form, {id: text}, whole or not at all.

    Args:
        path: The file to write; one that is there is replaced.
        predictions: Answer text by question id; "" for no answer.

    Raises:
        OSError: The file cannot be written; nothing half-written is left behind.
    """
    # JSON's names are strings; read_squad sees to it that no two ids become one.
    atomic_write_json(path, {str(identifier): text for identifier, text in predictions.items()})


def misalignment(context: str, text: str, start: int) -> str | None:
    """Say how a gold answer does not stand where its file says.

    Args:
        context: The passage.
        text: The answer.
        start: The answer's first character, as the file has it.

    Returns:
        What was got and wanted, and where else the answer stands; None where all is well.
    """
    if text and start >= 0 and context.startswith(text, start):
        return None
    if not 0 <= start <= len(context):
        got = f"got {start}, want a position in the context (0 to {len(context)})"
    elif not text:
        return f"got {start} for the answer '', want text"
    else:
        there = context[start : start + len(text)]
        got = (
            f"got {start}, where the context has {reprlib.repr(there)}, want the answer "
            f"{reprlib.repr(text)}"
        )
    places: list[int] = []
    position = context.find(text) if text else -1
    while position >= 0 and len(places) <= _MAX_PLACES:
        places.append(position)
        position = context.find(text, position + 1)
    if not places:
        return f"{got}, which is nowhere in it"
    shown = ", ".join(map(str, places[:_MAX_PLACES]))
    return f"{got}, which is at {shown}{', ...' if len(places) > _MAX_PLACES else ''}"


class _Reader:
    """Makes questions of records, and knows what was seen of a file so far."""

    def __init__(self, file: Path, faults: Faults, *, check_positions: bool) -> None:
        self.file = file
        self.faults = faults
        self.misaligned: list[str] = []
        self._check_positions = check_positions
        self._seen: dict[str, str | int] = {}
        # Every passage once: flat records repeat it for each question. And what is wrong with it.
        self._contexts: dict[str, tuple[str, str | None]] = {}

    def example(self, record: Record) -> SquadExample | None:
        """Check a record; None where it has faults, which are noted."""
        fields, place = record.fields, record.place
        identifier = self._identifier(fields, place)
        question = member(fields, place, "question", str)
        answers = _answers(fields, place)
        says_impossible = _is_impossible(fields, place)
        title = _title(record)
        named = f"question {identifier!r}"
        text = record.context
        if text is None:
            text = member(fields, place, "context", str)
        context, fault = self._context(text)
        faults = [fault, text_fault("question", question, max_chars=MAX_QUESTION_CHARS)]
        if says_impossible and answers:
            faults.append("is_impossible: got true, want false beside gold answers")
        bad = [f"{named}: {fault}" for fault in faults if fault is not None]
        kept = self._aligned(named, context, answers)
        for message in bad:
            self.faults.add(message)
        if bad or (answers and not kept):
            self.faults.drop(items=1)
            return None
        self.faults.drop(answers=len(answers) - len(kept))
        return SquadExample(
            id=identifier,
            title=title,
            question=question,
            context=context,
            answers=tuple(text for text, _ in kept),
            answer_starts=tuple(start for _, start in kept),
            # As the official script counts, whatever the file says beside it.
            is_impossible=not answers,
            place=f"{self.file}: {named}",
        )

    def _identifier(self, fields: Mapping[str, Any], place: str) -> str | int:
        if "id" not in fields:
            raise StructureError(f"{place}.id: is missing, want a string or an integer")
        value = fields["id"]
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise StructureError(f"{place}.id: got {kind_of(value)}, want a string or an integer")
        name = str(value)
        if name not in self._seen:
            self._seen[name] = value
            return value
        other = self._seen[name]
        if type(other) is type(value):
            raise StructureError(f"{place}: got the id {value!r} twice, want unique ids")
        raise StructureError(
            f"{place}: got the ids {other!r} and {value!r}, want ids that differ as text: "
            "predictions are written by them"
        )

    def _context(self, context: str) -> tuple[str, str | None]:
        known = self._contexts.get(context)
        if known is None:
            known = context, text_fault("context", context, max_chars=MAX_TEXT_CHARS)
            self._contexts[context] = known
        return known

    def _aligned(
        self, named: str, context: str, answers: list[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        """Note misaligned answers; return those that can be used."""
        kept = []
        for index, (text, start) in enumerate(answers):
            wrong = misalignment(context, text, start)
            message = f"{named}: answers[{index}].answer_start: {wrong}"
            if wrong is None:
                kept.append((text, start))
            elif self._check_positions or not 0 <= start <= len(context):
                self.faults.add(message)
            else:
                kept.append((text, start))
                self.misaligned.append(message)
        return kept


def _title(record: Record) -> str:
    title = record.title
    if title is None:
        return ""
    if not isinstance(title, str | int) or isinstance(title, bool):
        raise StructureError(f"{record.place}.title: got {kind_of(title)}, want a string")
    return str(title)


def _answers(fields: Mapping[str, Any], place: str) -> list[tuple[str, int]]:
    """Return texts and starts, from a list of answers or from an object of two lists."""
    at_answers = f"{place}.answers"
    if fields.get("answers") is None and fields.get("is_impossible"):
        return []
    value = fields.get("answers")
    if not isinstance(value, dict):
        found = enumerate(member(fields, place, "answers", list))
        pairs = [(answer, f"{at_answers}[{index}]") for index, answer in found]
    else:
        columns = {name: member(value, at_answers, name, list) for name in ("text", "answer_start")}
        texts, starts = columns["text"], columns["answer_start"]
        if len(texts) != len(starts):
            raise StructureError(
                f"{at_answers}.answer_start: got {len(starts)} positions, want {len(texts)}, as "
                "many as texts"
            )
        pairs = [
            ({"text": text, "answer_start": start}, f"{at_answers}[{index}]")
            for index, (text, start) in enumerate(zip(texts, starts, strict=True))
        ]
    return [
        (member(answer, where, "text", str), member(answer, where, "answer_start", int))
        for answer, where in pairs
    ]


def _is_impossible(fields: Mapping[str, Any], place: str) -> bool:
    value = fields.get("is_impossible")
    # Files that went through a table have 0 and 1, or null where the column is absent.
    if value is None or value in (0, 1):
        return bool(value)
    raise StructureError(f"{place}.is_impossible: got {reprlib.repr(value)}, want true or false")
