"""python -m runtime.summarize: sum up a text by its best sentences, or JSON lines from stdin."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.support.cli import make_parser, run_command
from bert_rt.tasks.summarization.rows import summary_fields
from bert_rt.tasks.summarization.summarizing import Summarization
from runtime.lines import parse_line
from runtime.loading import add_runtime_flags, load_runtime
from runtime.streams import compute_lines, print_result

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Sum up as the command line says, one JSON line a text.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser(
        "runtime.summarize",
        "Sum up a text by its best sentences; without --text, JSON lines on stdin: each "
        '{"text", "id"?}.',
    )
    parser.add_argument("--text", metavar="T")
    parser.add_argument(
        "--keep_repetitions",
        action="store_true",
        help="also sentences that repeat three words in a row of a better one",
    )
    # --max_sentences is one of the limits.
    add_runtime_flags(parser, Summarization())
    args = parser.parse_args(argv)
    if args.text is None and sys.stdin.isatty():
        parser.error("--text: got none, nor lines on stdin")
    blocking = not args.keep_repetitions
    with load_runtime(args) as runtime:
        if args.text is not None:
            print_result(
                summary_fields(runtime.summarize(args.text, trigram_blocking=blocking)), {}
            )
            return 0
        options = runtime.options(Summarization(), trigram_blocking=blocking)
        compute_lines(runtime, options, {"json": _json}, _text, summary_fields)
    return 0


def _json(line: bytes) -> dict[str, Any]:
    return parse_line(line, ("text",))


def _text(entry: Mapping[str, Any]) -> Any:
    return entry["text"]


if __name__ == "__main__":
    sys.exit(run_command(main))
