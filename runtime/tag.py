"""python -m runtime.tag: label the words of a text, or of a stream of texts from stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.support.cli import make_parser, run_command
from bert_rt.tasks.token_classification.tagging import TokenClassification
from bert_rt.types import Entity, TaggedWord, Tagging
from runtime.lines import at_line, batches, parse_line, parse_lines, parse_text_line
from runtime.loading import add_runtime_flags, load_runtime

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
    with load_runtime(args) as runtime:
        if args.text is not None:
            _print(runtime.tag(args.text), {}, args.words)
            return 0
        parse = _PARSERS.get(args.format)
        for lines in batches(sys.stdin.fileno()):
            first = next((line for _, line in lines if line.strip()), None)
            if parse is None and first is not None:
                parse = _PARSERS["json" if first.lstrip().startswith(b"{") else "text"]
            if parse is not None:
                _tag_lines(runtime, *parse_lines(lines, parse), args.words)
    return 0


def _tag_lines(
    runtime: Runtime,
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    failure: InputError | None,
    with_words: bool,
) -> None:
    """Label what stands before the first bad line, then raise its error."""
    task = TokenClassification()
    inputs = (entry.get("words", entry.get("text")) for _, entry in entries)
    results = runtime.session.stream(task, inputs, runtime.options(task), place="")
    try:
        for number, entry in entries:
            try:
                result = next(results)
            except InputError as error:
                raise at_line(number, error) from None
            _print(result, entry, with_words)
    finally:
        sys.stdout.flush()
    if failure is not None:
        raise failure


def _json(line: bytes) -> dict[str, Any]:
    entry = parse_line(line, ())
    if ("words" in entry) == ("text" in entry):
        raise InputError(f"got the fields {sorted(entry)}, want either text or words among them")
    if "words" in entry and not isinstance(entry["words"], list):
        raise InputError(f"words: got {type(entry['words']).__name__}, want a list of words")
    return entry


_PARSERS = {"json": _json, "text": parse_text_line}


def _print(tagging: Tagging, entry: Mapping[str, Any], with_words: bool) -> None:
    """Print the entities of a text as one line of JSON, with its id where there is one."""
    result: dict[str, Any] = {"entities": [_to_dict(entity) for entity in tagging.entities]}
    if with_words:
        result["words"] = [_to_dict(word) for word in tagging.words]
    if "id" in entry:
        result = {"id": entry["id"], **result}
    print(json.dumps(result))


def _to_dict(item: TaggedWord | Entity) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("text", "start", "end", "label", "score")}


if __name__ == "__main__":
    sys.exit(run_command(main))
