"""python -m runtime.answer: answer a question over a passage, or a stream of them from stdin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.cli import int_at_least, make_parser, run_command
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.rows import answer_fields
from runtime.lines import parse_line
from runtime.loading import add_runtime_flags, load_runtime
from runtime.streams import compute_lines, print_result

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Answer as the command line says, one JSON line a question.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser(
        "runtime.answer",
        'Answer a question over a passage; without --question, JSON lines {"question", "context", '
        '"id"?} on stdin.',
    )
    parser.add_argument("--question", metavar="Q")
    parser.add_argument("--context", metavar="C", help="the passage")
    parser.add_argument("--context_file", metavar="F", help="a UTF-8 file that holds the passage")
    parser.add_argument(
        "--top_k", type=int_at_least(1), default=1, metavar="N", help="answers wanted"
    )
    parser.add_argument(
        "--max_overlap",
        type=float,
        metavar="R",
        help="most of the shorter one's characters that two answers may share, from 0 (none) to 1; "
        "left out: no such rule",
    )
    add_runtime_flags(parser, QuestionAnswering(), keeps_contexts=True)
    args = parser.parse_args(argv)
    _check_texts(parser, args)
    if args.question is not None:
        context = args.context if args.context_file is None else _read_text(args.context_file)
        with load_runtime(args) as runtime:
            answer = runtime.answer(
                question=args.question,
                context=context,
                top_k=args.top_k,
                max_overlap=args.max_overlap,
            )
        print_result(answer_fields(answer), {})
        return 0
    with load_runtime(args) as runtime:
        options = runtime.options(
            QuestionAnswering(), top_k=args.top_k, max_overlap=args.max_overlap
        )
        compute_lines(runtime, options, {"json": _parse}, _pair, answer_fields)
    return 0


def _check_texts(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    num_contexts = (args.context is not None) + (args.context_file is not None)
    if args.question is None:
        if num_contexts:
            parser.error("--question: is missing beside the context")
        if sys.stdin.isatty():
            parser.error("--question and --context: got neither, nor JSON lines on stdin")
    elif num_contexts != 1:
        got = "both" if num_contexts else "neither"
        parser.error(f"--context, --context_file: got {got}, want one of them")


def _read_text(path: str) -> str:
    try:
        # Not Path.read_text, which would turn CRLF into LF and so move every offset behind it.
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"context_file: {path} is not UTF-8 at byte {error.start}") from None


def _parse(line: bytes) -> dict[str, Any]:
    return parse_line(line, ("question", "context"))


def _pair(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry["question"], entry["context"]


if __name__ == "__main__":
    sys.exit(run_command(main))
