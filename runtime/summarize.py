"""python -m runtime.summarize: sum up a text by its best sentences, or JSON lines from stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.support.cli import make_parser, run_command
from bert_rt.tasks.summarization.summarizing import Summarization
from bert_rt.types import Summary
from runtime.lines import at_line, batches, parse_line, parse_lines
from runtime.loading import add_runtime_flags, load_runtime

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
            _print(runtime.summarize(args.text, trigram_blocking=blocking), {})
            return 0
        for lines in batches(sys.stdin.fileno()):
            _summarize_lines(runtime, *parse_lines(lines, _json), blocking)
    return 0


def _summarize_lines(
    runtime: Runtime,
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    failure: InputError | None,
    blocking: bool,
) -> None:
    """Sum up what stands before the first bad line, then raise its error."""
    task = Summarization()
    options = runtime.options(task, trigram_blocking=blocking)
    inputs = (entry["text"] for _, entry in entries)
    results = runtime.session.stream(task, inputs, options, place="")
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


def _print(summary: Summary, entry: Mapping[str, Any]) -> None:
    """Print a summary as one line of JSON, with the id of its text where there is one."""
    names = ("text", "start", "end", "score", "index")
    sentences = [{name: getattr(s, name) for name in names} for s in summary.sentences]
    result = {"summary": summary.text, "sentences": sentences}
    if "id" in entry:
        result = {"id": entry["id"], **result}
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(run_command(main))
