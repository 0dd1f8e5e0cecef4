"""Standard input to standard output, line by line, for the commands that ask a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bert_rt.api import Runtime
from bert_rt.errors import InputError
from bert_rt.support.strict_json import readable_json
from bert_rt.tasks.base import CallOptions
from runtime.lines import at_line, batches, parse_lines

__all__ = ["compute_lines", "print_result"]

Parse = Callable[[bytes], dict[str, Any]]


def compute_lines(
    runtime: Runtime,
    options: CallOptions,
    parsers: Mapping[str, Parse],
    item_of: Callable[[Mapping[str, Any]], Any],
    fields_of: Callable[[Any], dict[str, Any]],
    *,
    form: str | None = "json",
) -> None:
    """Compute what stands on standard input, one line of JSON a result.

    Lines are computed as they arrive. What stands before a bad line is computed and printed first.

    Args:
        runtime: The Runtime.
        options: What is asked of every line.
        parsers: Make an entry of a line, by the form of the lines.
        item_of: Makes the task's input of an entry.
        fields_of: Makes the fields to print of a result.
        form: The lines' form; None for "json" where the first line starts with {, else "text".

    Raises:
        InputError: A line is bad; the message names it.
        BertRtError: The model failed.
    """
    for lines in batches(sys.stdin.fileno()):
        first = next((line for _, line in lines if line.strip()), None)
        if first is None:
            continue
        form = form or ("json" if first.lstrip().startswith(b"{") else "text")
        entries, failure = parse_lines(lines, parsers[form])
        _compute(runtime, options, entries, item_of, fields_of)
        if failure is not None:
            raise failure


def _compute(
    runtime: Runtime,
    options: CallOptions,
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    item_of: Callable[[Mapping[str, Any]], Any],
    fields_of: Callable[[Any], dict[str, Any]],
) -> None:
    items = (item_of(entry) for _, entry in entries)
    results = runtime.session.stream(runtime.task, items, options, place="")
    try:
        for number, entry in entries:
            try:
                result = next(results)
            except InputError as error:
                raise at_line(number, error) from None
            print_result(fields_of(result), entry)
    finally:
        sys.stdout.flush()


def print_result(fields: dict[str, Any], entry: Mapping[str, Any]) -> None:
    """Print a result as one line of JSON, with the id of its input where there is one.

    Letters are printed as they are; a line that stdout's encoding cannot hold is printed escaped.
    """
    if "id" in entry:
        fields = {"id": entry["id"], **fields}
    print(readable_json(fields, sys.stdout.encoding or "utf-8"))
