"""python -m train.finetune: fine-tune a checkpoint for a task, and evaluate it."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bert_rt.support.cli import (
    add_drop_flag,
    add_json_flag,
    dropped,
    int_at_least,
    make_parser,
    run_command,
    write_json,
)
from bert_rt.support.files import atomic_write_bytes
from bert_rt.support.flags import add_flags, given_flags
from bert_rt.tasks.flags import add_layout_flags, add_limit_flags, given_layout, given_limits
from train.options import TrainOptions, add_training_flags, training_options
from train.recipes import FINETUNING, Recipe, recipe_named
from train.tasks.base import Setup, TrainTask
from train.tasks.registry import TRAIN_TASKS

if TYPE_CHECKING:
    from torch import nn

    from train.loop.loop import TrainResult
    from train.loop.processes import Processes
    from train.tasks.base import TaskObjective

__all__ = ["main"]


@dataclass(frozen=True)
class _Plan:
    """What the flags ask for.

    Attributes:
        task: What is trained.
        recipe: The defaults.
        setup: What every seed's run is made of, its seed and weights left out.
    """

    task: TrainTask
    recipe: Recipe
    setup: Setup


def main(argv: Sequence[str]) -> int:
    """Fine-tune as the command line says, and print how well it went.

    Args:
        argv: The arguments.

    Returns:
        0, also where a signal stopped the run with a checkpoint; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    plan = _plan(args)
    options = training_options(args, plan.recipe.options)

    # After the flags: torch takes seconds to import, and --help should not.
    from train.loop.processes import join_processes
    from train.loop.rundir import check_run_dir, run_directory, summarize

    results: dict[int, TrainResult] = {}
    with join_processes(options.device) as processes, run_directory(args.output_dir):
        for seed in range(options.seed, options.seed + args.num_seeds):
            directory = args.output_dir if args.num_seeds == 1 else args.output_dir / f"seed-{seed}"
            with run_directory(directory):
                resume_from = check_run_dir(directory, is_resumed=args.resume)
                results[seed] = _train(
                    args, plan, replace(options, seed=seed), directory, resume_from, processes
                )
            if processes.is_first:
                print(summarize(results[seed], directory))
            if not results[seed].is_finished:
                return 0
        if processes.is_first:
            outcome = {str(seed): asdict(result) for seed, result in results.items()}
            if args.num_seeds > 1 and args.validation_file is not None:
                average = _finish_seeds(args, plan, options, results, processes)
                if average is None:
                    return 0
                outcome["average"] = {"scores": average}
            write_json(args.json, outcome)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("train.finetune", "Fine-tune a checkpoint for a task.")
    parser.add_argument("--task", required=True, choices=sorted(TRAIN_TASKS))
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
    add_flags(parser, [task.options_class for task in TRAIN_TASKS.values()])
    add_training_flags(parser, {})
    settings = [task.task for task in TRAIN_TASKS.values()]
    add_limit_flags(parser, settings)
    add_layout_flags(parser, settings)
    add_drop_flag(parser)
    add_json_flag(parser)
    return parser


def _plan(args: argparse.Namespace) -> _Plan:
    """Read the flags; raises ConfigError for one that means nothing for the task."""
    task = TRAIN_TASKS[args.task]
    recipe = recipe_named(args.recipe, FINETUNING) if args.recipe else task.default_recipe()
    all_options = [known.options_class for known in TRAIN_TASKS.values()]
    settings = [known.task for known in TRAIN_TASKS.values()]
    setup = Setup(
        model_dir=args.model_name_or_path,
        train_files=args.train_file,
        validation_file=args.validation_file,
        weights_dir=None,
        limits=task.make_limits(given_limits(args, settings), recipe),
        layout=task.task.make_layout(given_layout(args, settings)),
        options=task.make_options({**recipe.task_options, **given_flags(args, all_options)}),
        batch_size=args.per_device_train_batch_size or recipe.batch_size,
        seed=0,
    )
    return _Plan(task, recipe, setup)


def _train(
    args: argparse.Namespace,
    plan: _Plan,
    options: TrainOptions,
    directory: Path,
    resume_from: Path | None,
    processes: Processes,
) -> TrainResult:
    from train.loop.loop import train
    from train.loop.rundir import file_sha256

    model, objective = _make(args, plan, options.seed, resume_from, processes.length_multiple)
    fingerprint = {
        "task": args.task,
        "checkpoint_sha256": plan.task.start_hash(args.model_name_or_path),
        "train_sha256": [
            file_sha256(file)
            for path in args.train_file
            for file in plan.task.data_files(path, plan.setup.layout)
        ],
        "per_device_train_batch_size": plan.setup.batch_size,
        "num_processes": processes.count,
        # Absent where it is off, as in the checkpoints of runs that did not know it.
        **({"drop_invalid": True} if args.drop_invalid else {}),
        **plan.task.fingerprint(plan.setup),
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
    plan: _Plan,
    seed: int,
    weights_dir: Path | None,
    length_multiple: int,
) -> tuple[nn.Module, TaskObjective]:
    """Make the model and its objective."""
    # What is left out is counted anew for every seed.
    setup = replace(plan.setup, seed=seed, weights_dir=weights_dir, dropped=dropped(args))
    model, objective = plan.task.make(setup)
    objective.padding.multiple = length_multiple
    return model, objective


def _finish_seeds(
    args: argparse.Namespace,
    plan: _Plan,
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
    model, objective = _make(args, plan, options.seed, average_dir, processes.length_multiple)
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
    figures = ", ".join(f"{name} {value:.4g}" for name, value in average.items())
    print(f"the average of their weights: {figures}")
    print(f"{output_dir}: the model of {source.name}, the best with {scores[best]:.2f}")
    return average


if __name__ == "__main__":
    sys.exit(run_command(main))
