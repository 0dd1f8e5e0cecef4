"""python -m runtime.answer: answer a question over a passage, or a stream of them from stdin."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.api import Runtime
from bert_rt.cli import int_at_least, make_parser, run_command
from bert_rt.errors import InputError
from bert_rt.session import CallOptions
from bert_rt.strict_json import parse_json
from bert_rt.types import Answer
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]

# Lines answered together at most, and the longest line: a context of the greatest length, escaped.
_MAX_LINES = 512
_MAX_LINE_BYTES = 2**26


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
    add_runtime_flags(parser)
    args = parser.parse_args(argv)
    _check_texts(parser, args)
    if args.question is not None:
        context = args.context if args.context_file is None else _read_text(args.context_file)
        with load_runtime(args) as runtime:
            answer = runtime.answer(question=args.question, context=context, top_k=args.top_k)
        _print(answer, {})
        return 0
    with load_runtime(args) as runtime:
        for lines in _batches(sys.stdin.fileno()):
            _answer_lines(runtime, lines, args.top_k)
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
        # Not read_text, which would turn CRLF into LF and so move every offset behind it.
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"context_file: {path} is not UTF-8 at byte {error.start}") from None


def _batches(descriptor: int) -> Iterator[list[tuple[int, bytes]]]:
    """Yield numbered lines as they arrive: what is there, without waiting for more.

    A program that sends one question and waits for its answer gets it; a file is answered in
    large batches.
    """
    number = 0
    rest = b""
    data = b"\n"
    while data:
        data = os.read(descriptor, 2**20)
        *lines, rest = (rest + data).split(b"\n")
        while data and len(lines) < _MAX_LINES and select.select([descriptor], [], [], 0)[0]:
            data = os.read(descriptor, 2**20)
            *more, rest = (rest + data).split(b"\n")
            lines += more
        if len(rest) > _MAX_LINE_BYTES:
            raise InputError(
                f"line {number + len(lines) + 1}: got more than {_MAX_LINE_BYTES} bytes, want less"
            )
        if not data and rest:  # the last line may end without a newline
            lines.append(rest)
        yield [(number + i, line) for i, line in enumerate(lines, start=1)]
        number += len(lines)


def _answer_lines(runtime: Runtime, lines: Sequence[tuple[int, bytes]], top_k: int) -> None:
    """Answer what stands before the first bad line, then raise its error."""
    entries, failure = _parse_lines(lines)
    pairs = ((entry["question"], entry["context"]) for _, entry in entries)
    answers = runtime.session.stream(pairs, CallOptions(runtime.limits, top_k), place="")
    try:
        for number, entry in entries:
            try:
                answer = next(answers)
            except InputError as error:
                raise _at_line(number, error) from None
            _print(answer, entry)
    finally:
        sys.stdout.flush()
    if failure is not None:
        raise failure


def _parse_lines(
    lines: Sequence[tuple[int, bytes]],
) -> tuple[list[tuple[int, dict[str, Any]]], InputError | None]:
    """Parse the lines before the first bad one; return its error beside them."""
    entries: list[tuple[int, dict[str, Any]]] = []
    number = 0
    try:
        for number, line in lines:
            if line.strip():
                entries.append((number, _parse(line)))
    except InputError as error:
        return entries, _at_line(number, error)
    return entries, None


def _parse(line: bytes) -> dict[str, Any]:
    try:
        entry = parse_json(line, max_bytes=_MAX_LINE_BYTES)
    except ValueError as error:
        raise InputError(f"is not valid JSON: {error}") from None
    if not isinstance(entry, dict):
        raise InputError(f'got {type(entry).__name__}, want an object {{"question", "context"}}')
    for name in ("question", "context"):
        if name not in entry:
            raise InputError(f"{name}: is missing")
    return entry


def _at_line(number: int, error: InputError) -> InputError:
    return type(error)(f"stdin, line {number}: {error}")


def _print(answer: Answer, entry: Mapping[str, Any]) -> None:
    """Print an answer as one line of JSON, with the id of its question where there is one."""
    result = _to_dict(answer)
    if answer.alternatives:
        result["alternatives"] = [_to_dict(other) for other in answer.alternatives]
    if "id" in entry:
        result = {"id": entry["id"], **result}
    print(json.dumps(result))


def _to_dict(answer: Answer) -> dict[str, Any]:
    names = ("text", "start", "end", "score", "logit", "null_score")
    return {name: getattr(answer, name) for name in names}


if __name__ == "__main__":
    sys.exit(run_command(main))
