"""python -m runtime.evaluate: exact match and F1 of an artifact on a SQuAD file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bert_rt import __version__
from bert_rt.cli import add_json_flag, int_at_least, make_parser, run_command, write_json
from bert_rt.config import to_dict
from bert_rt.evaluation import evaluate
from bert_rt.progress import progress
from bert_rt.squad import read_squad, write_predictions
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Evaluate as the command line says and print a summary.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser("runtime.evaluate", "Measure exact match and F1 on a SQuAD file.")
    parser.add_argument(
        "--data", required=True, metavar="F", help="SQuAD v1.1 or v2.0, .json or .json.gz"
    )
    parser.add_argument(
        "--limit", type=int_at_least(1), metavar="N", help="only the first N questions"
    )
    parser.add_argument("--predictions", metavar="F", help="write the answers, {id: text}")
    add_runtime_flags(parser)
    add_json_flag(parser)
    args = parser.parse_args(argv)

    examples = read_squad(args.data)[: args.limit]
    with load_runtime(args) as runtime:
        info = runtime.info
        with progress(f"evaluate on {info.name}", total=len(examples), unit="questions") as shown:
            result = evaluate(runtime, examples, progress=shown)
        limits = to_dict(runtime.limits)
    if args.predictions is not None:
        write_predictions(args.predictions, result.predictions)
    summary = {
        "exact_match": result.exact_match,
        "f1": result.f1,
        "total": result.total,
        "questions_per_second": result.questions_per_second,
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
        f"exact match {result.exact_match:.2f}, F1 {result.f1:.2f} over {result.total} questions\n"
        f"{result.questions_per_second:.1f} questions/s, text to answer, on {info.name} "
        f"{info.version}{isa}, {info.precision}, {info.device}, {info.num_threads} threads"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
