"""python -m runtime.evaluate: how well an artifact does on a file of its task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bert_rt import __version__
from bert_rt.api import Runtime
from bert_rt.evaluation import evaluate, evaluate_classes
from bert_rt.model.config import to_dict
from bert_rt.support.cli import (
    add_column_flags,
    add_drop_flag,
    add_json_flag,
    columns,
    dropped,
    int_at_least,
    make_parser,
    run_command,
    writable_path,
    write_json,
)
from bert_rt.support.faults import Dropped
from bert_rt.support.progress import progress
from bert_rt.tasks.question_answering.metrics import reliability
from bert_rt.tasks.question_answering.squad import read_squad, write_predictions
from bert_rt.tasks.text_classification.labelled import read_labelled
from runtime.loading import add_runtime_flags, load_runtime

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Evaluate as the command line says and print a summary.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    parser = make_parser("runtime.evaluate", "Measure exact match and F1, or accuracy.")
    parser.add_argument(
        "--data",
        required=True,
        metavar="F",
        help="SQuAD v1.1 or v2.0, or flat JSON or JSON Lines of such questions; for text "
        "classification .tsv, .csv or .jsonl; or these with .gz",
    )
    parser.add_argument("--limit", type=int_at_least(1), metavar="N", help="only the first N")
    parser.add_argument(
        "--predictions",
        metavar="F",
        type=writable_path,
        help="write the answers, {id: text}; or {row: label}",
    )
    add_runtime_flags(parser)
    add_column_flags(parser)
    add_drop_flag(parser)
    add_json_flag(parser)
    args = parser.parse_args(argv)

    with load_runtime(args) as runtime:
        info = runtime.info
        measure = _classes if runtime.manifest.task == "text-classification" else _answers
        left_out = dropped(args)
        scores, told = measure(runtime, args, left_out)
        limits = to_dict(runtime.limits)
    summary = {
        **scores,
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
        f"{told} on {info.name} {info.version}{isa}, {info.precision}, {info.device}, "
        f"{info.num_threads} threads"
    )
    return 0


def _answers(
    runtime: Runtime, args: argparse.Namespace, left_out: Dropped | None
) -> tuple[dict[str, Any], str]:
    """Return the scores of question answering, and how they are told."""
    examples = read_squad(args.data, dropped=left_out)[: args.limit]
    title = f"evaluate on {runtime.info.name}"
    with progress(title, total=len(examples), unit="questions") as shown:
        result = evaluate(runtime, examples, progress=shown)
    if args.predictions is not None:
        write_predictions(args.predictions, result.predictions)
    calibration_error = reliability(result.score_N, result.exact_N).expected_calibration_error
    scores = {
        "exact_match": result.exact_match,
        "f1": result.f1,
        "total": result.total,
        "expected_calibration_error": calibration_error,
        **result.no_answer,
        "questions_per_second": result.questions_per_second,
    }
    return scores, (
        f"exact match {result.exact_match:.2f}, F1 {result.f1:.2f} over {result.total} questions\n"
        f"expected calibration error of the scores {calibration_error:.4f}\n"
        f"{_no_answer(result.no_answer)}"
        f"{result.questions_per_second:.1f} questions/s, text to answer,"
    )


def _no_answer(figures: Mapping[str, float]) -> str:
    """Tell the official figures of a file in which questions have no answer, a line each."""
    if not figures:
        return ""
    kinds = [
        f"{name}: exact match {figures[f'{name}_exact']:.2f}, F1 {figures[f'{name}_f1']:.2f} over "
        f"{figures[f'{name}_total']} questions\n"
        for name in ("HasAns", "NoAns")
        if figures[f"{name}_total"]
    ]
    return "".join(kinds) + (
        f"best F1 {figures['best_f1']:.2f} with null_score_diff_threshold "
        f"{figures['best_f1_thresh']:.3f}\n"
    )


def _classes(
    runtime: Runtime, args: argparse.Namespace, left_out: Dropped | None
) -> tuple[dict[str, Any], str]:
    """Return the scores of text classification, and how they are told."""
    examples = read_labelled(args.data, columns(args), dropped=left_out)[: args.limit]
    title = f"evaluate on {runtime.info.name}"
    with progress(title, total=len(examples), unit="texts") as shown:
        result = evaluate_classes(runtime, examples, progress=shown)
    if args.predictions is not None:
        labels = runtime.manifest.labels
        given = {str(n): labels[index] for n, index in enumerate(result.predicted_Q.tolist())}
        write_predictions(args.predictions, given)
    calibration_error = reliability(result.score_Q, result.correct_Q).expected_calibration_error
    scores = {
        "accuracy": result.accuracy,
        "macro_f1": result.macro_f1,
        "total": result.total,
        "expected_calibration_error": calibration_error,
        "texts_per_second": result.texts_per_second,
    }
    return scores, (
        f"accuracy {result.accuracy:.2f}, macro F1 {result.macro_f1:.2f} over {result.total} "
        f"texts\nexpected calibration error of the scores {calibration_error:.4f}\n"
        f"{result.texts_per_second:.1f} texts/s, text to class,"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
