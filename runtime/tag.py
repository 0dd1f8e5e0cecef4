"""python -m runtime.tag: label the words of a text, or of a stream of texts from stdin."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.errors import InputError
from bert_rt.support.cli import make_parser, run_command
from bert_rt.tasks.token_classification.rows import tag_fields
from bert_rt.tasks.token_classification.tagging import TokenClassification
from runtime.lines import parse_line, parse_text_line
from runtime.loading import add_runtime_flags, load_runtime
from runtime.streams import compute_lines, print_result

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Label words as the command line says, one JSON line a text.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser(
        "runtime.tag",
        "Label the words of a text and find its entities; without --text, lines on stdin: each a "
        'text, or each JSON {"text" or "words", "id"?}.',
    )
    parser.add_argument("--text", metavar="T")
    parser.add_argument(
        "--format",
        choices=("json", "text"),
        help="of the lines; left out: JSON where the first one starts with {",
    )
    parser.add_argument("--words", action="store_true", help="write every word with its label, too")
    add_runtime_flags(parser, TokenClassification())
    args = parser.parse_args(argv)
    if args.text is None and sys.stdin.isatty():
        parser.error("--text: got none, nor lines on stdin")
    fields_of = functools.partial(tag_fields, with_words=args.words)
    with load_runtime(args) as runtime:
        if args.text is not None:
            print_result(fields_of(runtime.tag(args.text)), {})
            return 0
        options = runtime.options(TokenClassification())
        compute_lines(runtime, options, _PARSERS, _words_or_text, fields_of, form=args.format)
    return 0


def _json(line: bytes) -> dict[str, Any]:
    entry = parse_line(line, ())
    if ("words" in entry) == ("text" in entry):
        raise InputError(f"got the fields {sorted(entry)}, want either text or words among them")
    if "words" in entry and not isinstance(entry["words"], list):
        raise InputError(f"words: got {type(entry['words']).__name__}, want a list of words")
    return entry


_PARSERS = {"json": _json, "text": parse_text_line}


def _words_or_text(entry: Mapping[str, Any]) -> Any:
    return entry.get("words", entry.get("text"))


if __name__ == "__main__":
    sys.exit(run_command(main))
