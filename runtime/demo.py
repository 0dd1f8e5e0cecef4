"""python -m runtime.demo: questions over a few passages, answered by the embedded model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_rt.api import Runtime
from bert_rt.errors import EngineInternalError
from bert_rt.support.cli import make_parser, run_command
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.types import Answer
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]

# Below this an answer is shown as a guess; the last question on photosynthesis is there to be one.
_LOW_SCORE = 0.4
_PASSAGES = Path(__file__).with_name("demo_passages.json")
_ROW = "  {:<70} {:<34} {:>5} {:>8}"


@dataclass(frozen=True, slots=True)
class _Passage:
    title: str
    context: str
    questions: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    """Answer the demonstration's questions and print them as a table.

    Args:
        argv: The arguments.

    Returns:
        0; an answer that is no slice of its passage is an exception.
    """
    parser = make_parser("runtime.demo", "Answer questions over a few passages.")
    add_runtime_flags(parser, QuestionAnswering())
    args = parser.parse_args(argv)
    start_s = time.perf_counter()
    with load_runtime(args) as runtime:
        load_ms = 1e3 * (time.perf_counter() - start_s)
        info = runtime.info
        isa = f" with {info.isa}" if info.isa else ""
        print(
            f"{info.name} {info.version}{isa}, {info.precision}, {info.device}, "
            f"{info.num_threads} threads; loaded and self-tested in {load_ms:.0f} ms"
        )
        if info.notice:
            print(f"note: {info.notice}")
        for passage in _read_passages():
            _show(runtime, passage)
    return 0


def _read_passages() -> list[_Passage]:
    document = json.loads(_PASSAGES.read_text(encoding="utf-8"))
    return [
        _Passage(entry["title"], entry["context"], tuple(entry["questions"]))
        for entry in document["passages"]
    ]


def _show(runtime: Runtime, passage: _Passage) -> None:
    """Answer the questions on one passage one by one, and print a row for each."""
    print(f"\n{passage.title} ({len(passage.context.split())} words)")
    print(_ROW.format("question", "answer", "score", "ms"))
    for question in passage.questions:
        start_s = time.perf_counter()
        answer = runtime.answer(question=question, context=passage.context)
        answer_ms = 1e3 * (time.perf_counter() - start_s)
        _check_slice(answer, passage.context)
        text = " ".join(answer.text.split())
        if answer.score < _LOW_SCORE:
            text = f"(unsure: {text})"
        print(_ROW.format(question, text, f"{answer.score:.2f}", f"{answer_ms:.1f}"))


def _check_slice(answer: Answer, context: str) -> None:
    if context[answer.start : answer.end] != answer.text:
        raise EngineInternalError(
            f"answer: got {answer.text!r} at {answer.start} to {answer.end}, want "
            f"{context[answer.start : answer.end]!r}, the passage's own text"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
