"""python -m runtime.classify: classify a text, or a stream of them from stdin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.support.cli import int_at_least, make_parser, run_command
from bert_rt.tasks.text_classification.classifying import TextClassification
from bert_rt.tasks.text_classification.rows import class_fields
from bert_rt.types import TextInput
from runtime.lines import parse_line, parse_text_line
from runtime.loading import add_runtime_flags, load_runtime
from runtime.streams import compute_lines, print_result

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
            result = runtime.classify(args.text, args.text_pair, top_k=args.top_k)
            print_result(class_fields(result), {})
            return 0
        options = runtime.options(TextClassification(), top_k=args.top_k)
        compute_lines(runtime, options, _PARSERS, _text, class_fields, form=args.format)
    return 0


def _check_texts(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.text is not None:
        return
    if args.text_pair is not None:
        parser.error("--text: is missing beside the second text")
    if sys.stdin.isatty():
        parser.error("--text: got none, nor lines on stdin")


def _json(line: bytes) -> dict[str, Any]:
    return parse_line(line, ("text",))


def _text(entry: Mapping[str, Any]) -> TextInput:
    return TextInput(entry["text"], entry.get("text_pair"))


_PARSERS = {"json": _json, "text": parse_text_line}


if __name__ == "__main__":
    sys.exit(run_command(main))
