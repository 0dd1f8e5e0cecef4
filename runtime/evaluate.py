"""python -m runtime.evaluate: how well an artifact does on a file of its task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from bert_rt import __version__
from bert_rt.model.config import to_dict
from bert_rt.support.cli import (
    add_drop_flag,
    add_json_flag,
    dropped,
    int_at_least,
    make_parser,
    run_command,
    writable_path,
    write_json,
)
from bert_rt.support.progress import progress
from bert_rt.tasks.flags import add_layout_flags, data_files, given_layout
from bert_rt.tasks.question_answering.squad import write_predictions
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Evaluate as the command line says and print a summary.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = _parser().parse_args(argv)

    with load_runtime(args) as runtime:
        info, task = runtime.info, runtime.task
        left_out = dropped(args)
        layout = task.make_layout(given_layout(args))
        examples = task.read_examples(
            args.data, layout, runtime.manifest.labels, runtime.head, dropped=left_out
        )
        examples = examples[: args.limit]
        title = f"evaluate on {info.name}"
        with progress(title, total=len(examples), unit="examples") as shown:
            result = task.evaluate(runtime, examples, progress=shown)
        limits = to_dict(runtime.limits)
    if args.predictions is not None:
        write_predictions(args.predictions, result.predictions)
    summary = {
        **result.to_dict(),
        **({} if left_out is None else {"dropped": asdict(left_out)}),
        "engine": info.name,
        "precision": info.precision,
        "engine_version": info.version,
        "device": info.device,
        "isa": info.isa,
        "num_threads": info.num_threads,
        "artifact": args.artifact,
        "data": args.data,
        "limits": limits,
        "bert_rt_version": __version__,
    }
    write_json(args.json, summary)
    isa = f" ({info.isa})" if info.isa else ""
    print(
        f"{result.describe()} on {info.name} {info.version}{isa}, {info.precision}, {info.device}, "
        f"{info.num_threads} threads"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "runtime.evaluate", "Measure exact match and F1, or what other tasks have for them."
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="F",
        help=data_files(),
    )
    parser.add_argument("--limit", type=int_at_least(1), metavar="N", help="only the first N")
    parser.add_argument(
        "--predictions",
        metavar="F",
        type=writable_path,
        help="write the answers, {id: text}; or {row: label}",
    )
    add_runtime_flags(parser, keeps_contexts=True)
    add_layout_flags(parser)
    add_drop_flag(parser)
    add_json_flag(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
