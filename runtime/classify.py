"""python -m runtime.classify: classify a text, or a stream of them from stdin."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.support.cli import int_at_least, make_parser, run_command
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.text_classification.classifying import TextClassification
from bert_rt.tasks.text_classification.rows import class_fields
from bert_rt.types import Classification, TextInput
from runtime.lines import at_line, batches, parse_line, parse_lines, parse_text_line
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Classify as the command line says, one JSON line a text.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser(
        "runtime.classify",
        "Classify a text or a pair of texts; without --text, lines on stdin: each a text, or each "
        'JSON {"text", "text_pair"?, "id"?}.',
    )
    parser.add_argument("--text", metavar="T")
    parser.add_argument("--text_pair", metavar="T", help="the second text of a pair")
    parser.add_argument(
        "--format",
        choices=("json", "text"),
        help="of the lines; left out: JSON where the first one starts with {",
    )
    parser.add_argument(
        "--top_k",
        type=int_at_least(1),
        metavar="N",
        help="classes wanted; left out: one, or all labels of a model that gives several",
    )
    add_runtime_flags(parser, TextClassification())
    args = parser.parse_args(argv)
    _check_texts(parser, args)
    with load_runtime(args) as runtime:
        if args.text is not None:
            _print(runtime.classify(args.text, args.text_pair, top_k=args.top_k), {})
            return 0
        options = runtime.options(TextClassification(), top_k=args.top_k)
        parse = _PARSERS.get(args.format)
        for lines in batches(sys.stdin.fileno()):
            first = next((line for _, line in lines if line.strip()), None)
            if parse is None and first is not None:
                parse = _PARSERS["json" if first.lstrip().startswith(b"{") else "text"]
            if parse is not None:
                _classify_lines(runtime, *parse_lines(lines, parse), options)
    return 0


def _check_texts(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.text is not None:
        return
    if args.text_pair is not None:
        parser.error("--text: is missing beside the second text")
    if sys.stdin.isatty():
        parser.error("--text: got none, nor lines on stdin")


def _classify_lines(
    runtime: Runtime,
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    failure: InputError | None,
    options: CallOptions,
) -> None:
    """Classify what stands before the first bad line, then raise its error."""
    inputs = (TextInput(entry["text"], entry.get("text_pair")) for _, entry in entries)
    results = runtime.session.stream(runtime.task, inputs, options, place="")
    try:
        for number, entry in entries:
            try:
                result = next(results)
            except InputError as error:
                raise at_line(number, error) from None
            _print(result, entry)
    finally:
        sys.stdout.flush()
    if failure is not None:
        raise failure


def _json(line: bytes) -> dict[str, Any]:
    return parse_line(line, ("text",))


_PARSERS = {"json": _json, "text": parse_text_line}


def _print(classification: Classification, entry: Mapping[str, Any]) -> None:
    """Print a class as one line of JSON, with the id of its text where there is one."""
    result = class_fields(classification)
    if "id" in entry:
        result = {"id": entry["id"], **result}
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(run_command(main))
