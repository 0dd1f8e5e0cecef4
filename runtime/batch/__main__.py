"""python -m runtime.batch: answer, or classify, files of any size."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import re
import sys
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bert_rt import __version__
from bert_rt.api import Runtime
from bert_rt.artifact.artifact import MANIFEST_NAME, default_artifact_path
from bert_rt.computing import Computed
from bert_rt.errors import ConfigError
from bert_rt.model.config import to_dict
from bert_rt.support.cli import (
    add_json_flag,
    int_at_least,
    make_parser,
    run_command,
    writable_path,
    write_json,
)
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.flags import add_row_flags, given_asked, given_columns
from runtime.batch.chunks import Chunk, Reading
from runtime.batch.encoding import Encoder, is_table
from runtime.batch.here import NUM_CHUNKS, compute_here
from runtime.batch.inputs import Inputs, Shard
from runtime.batch.run import ComputeAll, Files, Summary, run
from runtime.batch.sources import FORMATS
from runtime.batch.streams import STDIN, split_name
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Compute the rows of files as the command line says.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    errors = _errors_file(args)
    with load_runtime(args) as runtime:
        task = runtime.task
        form = task.rows()
        asked = form.make_asked(given_asked(args), task.name)
        options = runtime.options(top_k=args.top_k, **asked)
        reading = Reading(
            task=task,
            form=form,
            columns=form.make_columns(given_columns(args), task.name),
            kept=args.keep,
            has_file=len(args.input) > 1,
            is_table=is_table(args.output),
        )
        columns = reading.output_columns(has_alternatives=options.top_k > 1)
        inputs = Inputs(args.input, args.format, reading, args.shard)
        files = Files(args.output, errors, _identity(args, runtime, reading, options))
        encoder = Encoder(args.output, columns)
        compute_all = _computing(args, runtime, options, asked, inputs)
        summary = run(inputs, reading, encoder, files, compute_all)
        info = runtime.info
    _report(args, summary, {"engine": info.name, "num_threads": info.num_threads})
    return 0


def _computing(
    args: argparse.Namespace,
    runtime: Runtime,
    options: CallOptions,
    asked: dict[str, Any],
    inputs: Inputs,
) -> ComputeAll:
    """Return what computes chunks: this process or a cluster."""
    if args.ray is not None:
        return _computing_on_ray(args, runtime, {"top_k": args.top_k, **asked})
    # A pipe may not give another chunk for hours, and what is there is wanted before.
    num_chunks = 1 if inputs.num_rows is None else NUM_CHUNKS
    return functools.partial(compute_here, runtime, options, num_chunks=num_chunks)


def _computing_on_ray(
    args: argparse.Namespace, runtime: Runtime, asked: dict[str, Any]
) -> ComputeAll:
    from runtime.batch.cluster import Cluster, Engines

    info = runtime.info
    num_threads = args.num_threads or info.num_threads
    engines = Engines(
        artifact=args.artifact,
        options={
            "engine": info.name,  # not "auto", which another machine may take as another one
            "device": args.device,
            "num_threads": num_threads,
            "checkpoint": args.checkpoint,
            "config": runtime.limits,
            "max_context_cache_mb": args.max_context_cache_mb,
        },
        asked=asked,
        num_threads=num_threads,
        count=args.ray_workers,
    )

    def compute_all(chunks: Iterable[Chunk]) -> Generator[tuple[Chunk, Computed]]:
        # Ray prints messages of the cluster, and the results may go to standard output.
        with (
            contextlib.redirect_stdout(sys.stderr),
            contextlib.closing(Cluster(args.ray, engines)) as cluster,
        ):
            yield from cluster(chunks)

    return compute_all


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "runtime.batch",
        "Compute every row of files of any size; started again, it goes on where it ended.",
    )
    parser.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="F",
        help="JSON Lines, CSV, TSV, Parquet or SQuAD files, these with .gz or .zst; or - for stdin",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="G",
        help="results: CSV where the name ends in .csv, else JSON Lines; .gz and .zst pack them; - "
        "for stdout. Until it is complete it is G.part; G.journal says how far it has come",
    )
    parser.add_argument(
        "--errors", metavar="F", help="JSON Lines of bad rows: file, line, error and row"
    )
    parser.add_argument(
        "--on_error",
        choices=("write", "stop"),
        help="what a bad row does: it goes to --errors, or it ends the run; left out: the former "
        "where there is --errors",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="of the input; left out: by its name, JSON Lines for -"
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        metavar="NAME",
        help="columns of the input to copy into the output; left out: id, or the line where a row "
        "has none",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=Shard(),
        metavar="I/N",
        help="only part I of N, from 1; each part has an output of its own",
    )
    _add_ray_flags(parser)
    parser.add_argument(
        "--top_k",
        type=int_at_least(1),
        metavar="N",
        help="results wanted of every row; left out: as many as the model's task gives",
    )
    add_row_flags(parser)
    add_runtime_flags(parser, keeps_contexts=True)
    add_json_flag(parser)
    return parser


def _add_ray_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="compute on a cluster of Ray: its address, auto for the one of this machine, or local "
        "to start one here",
    )
    parser.add_argument(
        "--ray_workers",
        type=int_at_least(1),
        metavar="N",
        help="engines on the cluster, of --num_threads cores each; left out: as many as it has "
        "room for",
    )


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, want I/N, such as 1/8")
    try:
        return Shard(int(match[1]), int(match[2]))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("shard: ")) from None


def _errors_file(args: argparse.Namespace) -> str | None:
    """Return where bad rows go; None where they end the run."""
    if args.on_error == "write" and args.errors is None:
        raise ConfigError("on_error: got write, want --errors FILE beside it")
    for name in ("output", "errors"):
        path = getattr(args, name)
        if path is not None and path != STDIN:
            try:
                writable_path(path)
            except argparse.ArgumentTypeError as error:
                raise ConfigError(f"{name}: {error}") from None
    if args.ray_workers is not None and args.ray is None:
        raise ConfigError(f"ray_workers: got {args.ray_workers}, want --ray ADDRESS beside it")
    if args.errors == args.output:
        raise ConfigError(f"errors: got {args.errors!r}, want another file than the output")
    return None if args.on_error == "stop" else args.errors


def _identity(
    args: argparse.Namespace, runtime: Runtime, reading: Reading, options: CallOptions
) -> dict[str, Any]:
    """Return what the run's results depend on, beside the input."""
    manifest = Path(args.artifact or default_artifact_path()) / MANIFEST_NAME
    info = runtime.info
    return {
        "bert_rt": __version__,
        "artifact": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "engine": [info.name, info.precision, info.device],
        "limits": to_dict(runtime.limits),
        "columns": asdict(reading.columns),
        "keep": reading.kept,
        "top_k": options.top_k,
        "asked": given_asked(args),
        "input_format": args.format,
        "output": [*split_name(args.output)],
        "shard": [args.shard.index, args.shard.count],
    }


def _report(args: argparse.Namespace, summary: Summary, engine: dict[str, Any]) -> None:
    new_rows = summary.rows - summary.resumed_rows
    rate = new_rows / max(summary.seconds, 1e-9)
    write_json(
        args.json,
        {
            **asdict(summary),
            **engine,
            "rows_per_second": rate,
            "artifact": args.artifact,
            "input": args.input,
            "output": args.output,
            "bert_rt_version": __version__,
        },
    )
    line = f"{args.output}: {summary.rows:,} rows"
    if summary.resumed_rows:
        line += f", {summary.resumed_rows:,} of them by earlier runs"
    if summary.bad:
        line += f", {summary.bad:,} bad ones in {args.errors}"
    print(line, file=sys.stderr if args.output == STDIN else sys.stdout)


if __name__ == "__main__":
    sys.exit(run_command(main))
