"""python -m runtime.translate: translate a text, or lines from stdin."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.support.cli import int_at_least, make_parser, run_command
from bert_rt.support.flags import add_flags, given_flags
from bert_rt.tasks.translation.rows import SearchFlags, translation_fields
from bert_rt.tasks.translation.translating import Translating
from runtime.lines import parse_line, parse_text_line
from runtime.loading import add_runtime_flags, load_runtime
from runtime.streams import compute_lines, print_result

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Translate as the command line says, one JSON line a text.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser(
        "runtime.translate",
        "Translate a text; without --text, lines on stdin: each a text, or each JSON "
        '{"text", "id"?}.',
    )
    parser.add_argument("--text", metavar="T")
    parser.add_argument(
        "--format",
        choices=("json", "text"),
        help="of the lines; left out: JSON where the first one starts with {",
    )
    parser.add_argument(
        "--top_k", type=int_at_least(1), default=1, metavar="N", help="translations of a sentence"
    )
    add_flags(parser.add_argument_group("search", "left out: as the artifact says"), [SearchFlags])
    add_runtime_flags(parser, Translating())
    args = parser.parse_args(argv)
    if args.text is None and sys.stdin.isatty():
        parser.error("--text: got none, nor lines on stdin")
    search = given_flags(args, [SearchFlags])
    with load_runtime(args) as runtime:
        if args.text is not None:
            result = runtime.translate(args.text, top_k=args.top_k, **search)
            print_result(translation_fields(result), {})
            return 0
        options = runtime.options(Translating(), top_k=args.top_k, **search)
        compute_lines(runtime, options, _PARSERS, _text, translation_fields, form=args.format)
    return 0


def _json(line: bytes) -> dict[str, Any]:
    return parse_line(line, ("text",))


_PARSERS = {"json": _json, "text": parse_text_line}


def _text(entry: Mapping[str, Any]) -> Any:
    return entry["text"]


if __name__ == "__main__":
    sys.exit(run_command(main))
