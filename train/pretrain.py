"""python -m train.pretrain: masked language modelling and next-sentence prediction together."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_rt.errors import CheckpointError
from bert_rt.model.config import BERT_SIZES, BertConfig
from bert_rt.support.cli import add_json_flag, int_at_least, make_parser, run_command, write_json
from train.options import TrainOptions, add_training_flags, training_options
from train.recipes import INITIALIZATIONS, PRETRAINING, Recipe, recipe_named
from train.sizes import new_config

if TYPE_CHECKING:
    from bert_rt.model.heads import BertForPreTraining
    from train.tasks.pretraining import PretrainingObjective

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Pretrain as the command line says, and print how well it went.

    Args:
        argv: The arguments.

    Returns:
        0, also where a signal stopped the run with a checkpoint; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    recipe = recipe_named(args.recipe or _recipe_name(args.model), PRETRAINING)
    options = training_options(args, recipe.options)
    given, has_vocab_size = new_config(args.model)

    # After the flags: torch takes seconds to import, and --help should not.
    from train.loop.loop import train
    from train.loop.processes import join_processes
    from train.loop.rundir import (
        check_run_dir,
        file_sha256,
        mark_run_dir,
        run_directory,
        summarize,
    )
    from train.loop.state import load_weights

    with join_processes(options.device) as processes, run_directory(args.output_dir):
        resume_from = check_run_dir(args.output_dir, is_resumed=args.resume)
        with processes.first_one_first():
            tokenizer_files = _tokenizer_files(args, recipe, resume_from)
            config = given if has_vocab_size else _with_vocabulary(given, tokenizer_files)
            _check_long_phase(args, config)
            if args.work_dir is None:
                # The tokenized corpus is written into it.
                mark_run_dir(args.output_dir)
            model, objective = _make(args, recipe, options, config, tokenizer_files)
        objective = _with_long_phase(args, recipe, options, objective, processes.count)
        if resume_from is not None:
            load_weights(resume_from, model)
        result = train(
            model,
            objective,
            options,
            args.output_dir,
            processes,
            fingerprint={
                "task": "pretraining",
                "model": asdict(config),
                "corpus_sha256": [file_sha256(file) for file in args.corpus],
                "whole_word_masking": args.whole_word_masking,
                "num_processes": processes.count,
                **_fingerprint(args, recipe, objective),
            },
            resume_from=resume_from,
        )
        if processes.is_first:
            print(summarize(result, args.output_dir))
            write_json(args.json, asdict(result))
    return 0


def _fingerprint(
    args: argparse.Namespace, recipe: Recipe, objective: PretrainingObjective
) -> dict[str, Any]:
    is_given = args.tokenizer is not None
    return {
        "phases": [asdict(phase) for phase in objective.phases],
        "mlm_probability": objective.mlm_probability,
        "held_out_fraction": args.held_out_fraction,
        "initialization": args.initialization or recipe.initialization,
        "tokenizer_sha256": _tokenizer_hash(args.tokenizer) if is_given else None,
        "vocab_size": None if is_given else args.vocab_size or recipe.vocab_size,
    }


def _tokenizer_hash(directory: Path) -> str:
    from bert_rt.model.checkpoint import read_tokenizer_files

    digest = hashlib.sha256()
    for name, content in sorted(read_tokenizer_files(directory).items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("train.pretrain", "Pretrain BERT from raw text.")
    parser.add_argument("--corpus", required=True, nargs="+", metavar="F", type=Path)
    parser.add_argument(
        "--model", required=True, metavar="SIZE", help=f"{', '.join(BERT_SIZES)}, or CONFIG.json"
    )
    parser.add_argument("--output_dir", required=True, metavar="DIR", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--recipe", help=f"defaults of the rest: {', '.join(PRETRAINING)}")
    parser.add_argument(
        "--tokenizer", metavar="DIR", type=Path, help="left out: trained on the corpus"
    )
    parser.add_argument("--vocab_size", type=int_at_least(16), metavar="N")
    parser.add_argument("--per_device_train_batch_size", type=int_at_least(1), metavar="N")
    parser.add_argument("--max_seq_length", type=int_at_least(8), metavar="N")
    parser.add_argument(
        "--long_seq_length", type=int, metavar="N", help="of the last tenth of the steps; 0: none"
    )
    parser.add_argument("--whole_word_masking", action="store_true")
    parser.add_argument(
        "--mlm_probability", type=float, metavar="R", help="share of the tokens that are masked"
    )
    parser.add_argument(
        "--initialization",
        choices=INITIALIZATIONS,
        help="local: the first layer starts with heads that look at neighbours",
    )
    parser.add_argument("--held_out_fraction", type=float, default=0.01, metavar="R")
    parser.add_argument(
        "--work_dir", metavar="DIR", type=Path, help="keeps the tokenized corpus; shared by runs"
    )
    add_training_flags(parser, {})
    add_json_flag(parser)
    return parser


def _recipe_name(model: str) -> str:
    # A model of one's own is most likely a small one.
    return model if model in PRETRAINING else "mini"


def _with_vocabulary(config: BertConfig, tokenizer_files: Mapping[str, bytes]) -> BertConfig:
    """Give a model as many embeddings as the tokenizer has ids."""
    from bert_rt.text.tokenization import Tokenizer

    vocab_size = Tokenizer.from_bytes(tokenizer_files["tokenizer.json"]).vocab_size
    # A multiple of 64, which matrix products like better than odd numbers.
    return replace(config, vocab_size=-(-vocab_size // 64) * 64)


def _tokenizer_files(
    args: argparse.Namespace, recipe: Recipe, resume_from: Path | None
) -> Mapping[str, bytes]:
    """Read the tokenizer; train one on the corpus where none is given."""
    from bert_rt.model.checkpoint import read_tokenizer_files
    from bert_rt.text.tokenization import Tokenizer
    from train.vocab import train_vocabulary

    directory = resume_from or args.tokenizer
    if directory is None:
        return train_vocabulary(args.corpus, vocab_size=args.vocab_size or recipe.vocab_size)
    files = read_tokenizer_files(directory)
    if not files:
        raise CheckpointError(f"tokenizer: {directory} has neither tokenizer.json nor vocab.txt")
    # Made where the directory has vocab.txt only.
    return {"tokenizer.json": Tokenizer.from_directory(directory).to_json(), **files}


def _make(
    args: argparse.Namespace,
    recipe: Recipe,
    options: TrainOptions,
    config: BertConfig,
    tokenizer_files: Mapping[str, bytes],
) -> tuple[BertForPreTraining, PretrainingObjective]:
    from train.tasks.pretraining import make_pretraining

    return make_pretraining(
        args.corpus,
        config,
        tokenizer_files,
        args.work_dir or args.output_dir / "corpus",
        max_seq_length=args.max_seq_length or recipe.max_seq_length,
        batch_size=args.per_device_train_batch_size or recipe.batch_size,
        seed=options.seed,
        whole_word_masking=args.whole_word_masking,
        mlm_probability=(
            recipe.mlm_probability if args.mlm_probability is None else args.mlm_probability
        ),
        initialization=args.initialization or recipe.initialization,
        held_out_fraction=args.held_out_fraction,
    )


def _check_long_phase(args: argparse.Namespace, config: BertConfig) -> None:
    """Refuse sequences that are too long before the corpus is tokenized."""
    from train.data.phases import Phase, check_phases

    if args.long_seq_length:
        check_phases((Phase(max_seq_length=args.long_seq_length, batch_size=1),), config)


def _with_long_phase(
    args: argparse.Namespace,
    recipe: Recipe,
    options: TrainOptions,
    objective: PretrainingObjective,
    num_processes: int,
) -> PretrainingObjective:
    """Give the last tenth of the steps longer sequences, where it is known which these are."""
    from train.data.phases import paper_phases

    length = recipe.long_seq_length if args.long_seq_length is None else args.long_seq_length
    total_steps = options.total_steps(objective.num_micro_batches, num_processes)
    if not length or total_steps is None:
        return objective
    (phase,) = objective.phases
    num_micro_batches = total_steps * options.gradient_accumulation_steps * num_processes
    lengths = (phase.max_seq_length, length)
    return objective.with_phases(paper_phases(num_micro_batches, phase.batch_size, lengths=lengths))


if __name__ == "__main__":
    sys.exit(run_command(main))
