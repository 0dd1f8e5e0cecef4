"""python -m train.finetune: fine-tune a checkpoint for a task, and evaluate it."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import ConfigError
from bert_rt.model.config import AnsweringConfig
from bert_rt.support.cli import (
    add_answering_flags,
    add_column_flags,
    add_drop_flag,
    add_json_flag,
    answering_config,
    columns,
    dropped,
    int_at_least,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.support.files import atomic_write_bytes
from train.options import TrainOptions, add_training_flags, training_options
from train.recipes import FINETUNING, Recipe, recipe_named

if TYPE_CHECKING:
    from torch import nn

    from train.loop.loop import TrainResult
    from train.loop.objective import Objective
    from train.loop.processes import Processes

__all__ = ["main"]

# The recipe of a task where --recipe is left out.
_RECIPES = {"question-answering": "squad", "text-classification": "sst2"}


def main(argv: Sequence[str]) -> int:
    """Fine-tune as the command line says, and print how well it went.

    Args:
        argv: The arguments.

    Returns:
        0, also where a signal stopped the run with a checkpoint; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    recipe = recipe_named(args.recipe or _RECIPES[args.task], FINETUNING)
    options = training_options(args, recipe.options)

    # After the flags: torch takes seconds to import, and --help should not.
    from train.loop.processes import join_processes
    from train.loop.rundir import check_run_dir, run_directory, told

    results: dict[int, TrainResult] = {}
    with join_processes(options.device) as processes, run_directory(args.output_dir):
        for seed in range(options.seed, options.seed + args.num_seeds):
            directory = args.output_dir if args.num_seeds == 1 else args.output_dir / f"seed-{seed}"
            with run_directory(directory):
                resume_from = check_run_dir(directory, is_resumed=args.resume)
                results[seed] = _train(
                    args, recipe, replace(options, seed=seed), directory, resume_from, processes
                )
            if processes.is_first:
                print(told(results[seed], directory))
            if not results[seed].is_finished:
                return 0
        if processes.is_first:
            outcome = {str(seed): asdict(result) for seed, result in results.items()}
            if args.num_seeds > 1 and args.validation_file is not None:
                average = _finish_seeds(args, recipe, options, results, processes)
                if average is None:
                    return 0
                outcome["average"] = {"scores": average}
            write_json(args.json, outcome)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("train.finetune", "Fine-tune a checkpoint for a task.")
    parser.add_argument("--task", required=True, choices=sorted(_RECIPES))
    parser.add_argument("--model_name_or_path", required=True, metavar="DIR", type=Path)
    parser.add_argument("--train_file", required=True, nargs="+", metavar="F", type=Path)
    parser.add_argument("--validation_file", metavar="F", type=Path)
    parser.add_argument("--output_dir", required=True, metavar="DIR", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--recipe", help=f"defaults of the rest: {', '.join(FINETUNING)}")
    parser.add_argument("--per_device_train_batch_size", type=int_at_least(1), metavar="N")
    parser.add_argument(
        "--num_seeds",
        type=int_at_least(1),
        default=1,
        metavar="N",
        help="runs, each of --max_minutes; the best of them and of their average is kept",
    )
    parser.add_argument("--teacher", metavar="DIR", type=Path, help="learn from a checkpoint, too")
    parser.add_argument("--teacher_weight", type=float, default=0.5, metavar="W")
    parser.add_argument("--temperature", type=float, default=2.0, metavar="T")
    parser.add_argument(
        "--marked_answers_only",
        action="store_true",
        help="do not count the other places where an answer's text stands",
    )
    parser.add_argument(
        "--label_names", nargs="+", metavar="NAME", help="of classes 0, 1, ..., for classification"
    )
    add_training_flags(parser, {})
    add_answering_flags(parser)
    add_column_flags(parser)
    add_drop_flag(parser)
    add_json_flag(parser)
    return parser


def _train(
    args: argparse.Namespace,
    recipe: Recipe,
    options: TrainOptions,
    directory: Path,
    resume_from: Path | None,
    processes: Processes,
) -> TrainResult:
    from bert_rt.model.checkpoint import checkpoint_hash
    from train.loop.loop import train
    from train.loop.rundir import file_sha256

    batch_size = args.per_device_train_batch_size or recipe.batch_size
    model, objective, settings = _make(
        args, recipe, options, resume_from, batch_size, processes.length_multiple
    )
    fingerprint = {
        "task": args.task,
        "checkpoint_sha256": checkpoint_hash(args.model_name_or_path),
        "train_sha256": [file_sha256(file) for file in args.train_file],
        "per_device_train_batch_size": batch_size,
        "num_processes": processes.count,
        # Absent where it is off, as in the checkpoints of runs that did not know it.
        **({"drop_invalid": True} if args.drop_invalid else {}),
        **settings,
    }
    return train(
        model,
        objective,
        options,
        directory,
        processes,
        fingerprint=fingerprint,
        resume_from=resume_from,
    )


def _make(
    args: argparse.Namespace,
    recipe: Recipe,
    options: TrainOptions,
    resume_from: Path | None,
    batch_size: int,
    length_multiple: int,
) -> tuple[nn.Module, Objective, Mapping[str, Any]]:
    """Make the model, its objective, and the task's part of the fingerprint."""
    from train.tasks.distillation import load_teacher
    from train.tasks.question_answering import make_question_answering
    from train.tasks.text_classification import make_classification

    if args.task == "text-classification":
        if args.teacher is not None:
            raise ConfigError("teacher: got one, but only question-answering learns from it")
        max_seq_length = getattr(args, "max_seq_length", recipe.max_seq_length)
        classifier, classification = make_classification(
            args.model_name_or_path,
            args.train_file,
            args.validation_file,
            weights_dir=resume_from,
            columns=columns(args),
            labels=args.label_names,
            max_seq_length=max_seq_length,
            batch_size=batch_size,
            seed=options.seed,
            dropped=dropped(args),
        )
        classification.padding.multiple = length_multiple
        return classifier, classification, {"max_seq_length": max_seq_length}
    teacher = None
    if args.teacher is not None:
        teacher = load_teacher(
            args.teacher,
            args.task,
            args.model_name_or_path,
            weight=args.teacher_weight,
            temperature=args.temperature,
        )
    limits = answering_config(args, AnsweringConfig(max_seq_length=recipe.max_seq_length))
    model, objective = make_question_answering(
        args.model_name_or_path,
        args.train_file,
        args.validation_file,
        weights_dir=resume_from,
        config=limits,
        batch_size=batch_size,
        seed=options.seed,
        all_positions=not args.marked_answers_only,
        teacher=teacher,
        dropped=dropped(args),
    )
    objective.padding.multiple = length_multiple
    return model, objective, {"limits": asdict(limits)}


def _finish_seeds(
    args: argparse.Namespace,
    recipe: Recipe,
    options: TrainOptions,
    results: Mapping[int, TrainResult],
    processes: Processes,
) -> dict[str, float] | None:
    """Score the average of the seeds' weights; the best of it and the seeds becomes the model.

    Returns the average's scores; None where a signal came before they were known.
    """
    from train.average import average_checkpoints
    from train.loop.interrupts import stop_on_signals
    from train.loop.scoring import score

    output_dir: Path = args.output_dir
    directories = {str(seed): output_dir / f"seed-{seed}" for seed in results}
    average_dir = output_dir / "average"
    average_checkpoints([*directories.values()], average_dir)
    batch_size = args.per_device_train_batch_size or recipe.batch_size
    model, objective, _ = _make(
        args, recipe, options, average_dir, batch_size, processes.length_multiple
    )
    with stop_on_signals() as stop:
        average = score(model.to(processes.device), objective, stop)
    if average is None:
        print("stopped by a signal; --resume scores the average of the seeds")
        return None
    scores = {str(seed): r.best_score for seed, r in results.items() if r.best_score is not None}
    mean, deviation = statistics.fmean(scores.values()), statistics.stdev(scores.values())
    print(f"{len(scores)} seeds: {objective.best_metric} {mean:.2f} +- {deviation:.2f}")
    scores["average"] = average[objective.best_metric]
    best = max(scores, key=lambda name: scores[name])
    source = {**directories, "average": average_dir}[best]
    for file in source.iterdir():
        if file.is_file():
            atomic_write_bytes(output_dir / file.name, file.read_bytes())
    told = ", ".join(f"{name} {value:.4g}" for name, value in average.items())
    print(f"the average of their weights: {told}")
    print(f"{output_dir}: the model of {source.name}, the best with {scores[best]:.2f}")
    return average


if __name__ == "__main__":
    sys.exit(run_command(main))
