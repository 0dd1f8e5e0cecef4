"""python -m train.average: average the weights of models that were fine-tuned from the same start.

One model, as fast as each of them, that is often better than the best: a "model soup" (Wortsman et
al. 2022, arXiv:2203.05482, section 2). The last checkpoints of one run serve, too (Vaswani et al.
2017, arXiv:1706.03762, section 6.1).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bert_rt.errors import ConfigError, InputError
from bert_rt.model.checkpoint import (
    label_names,
    read_raw_config,
    read_tokenizer_files,
    save_checkpoint,
)
from bert_rt.model.encoder_decoder_checkpoint import (
    ENCODER_DECODER,
    TARGET_DIRECTORY,
    load_encoder_decoder,
    read_target_tokenizer_files,
    save_encoder_decoder,
)
from bert_rt.support.cli import make_parser, run_command
from bert_rt.tasks.checkpoints import load_model
from bert_rt.text.probing import difference
from bert_rt.text.tokenization import Tokenizer

if TYPE_CHECKING:
    from torch import nn

__all__ = ["average_checkpoints", "main"]


def average_checkpoints(
    directories: Sequence[Path], output_dir: Path, *, weights: Sequence[float] | None = None
) -> None:
    """Write the weighted mean of several checkpoints' parameters as a checkpoint.

    The sums are taken in float64, so that their order does not show in float32. In memory are, at
    most, two models and one sum.

    Args:
        directories: At least two checkpoints of one architecture, task and vocabulary, fine-tuned
            from the same one: between models that have nothing in common lie useless ones.
        output_dir: The checkpoint that is written; the files of one that is there are replaced.
        weights: How much each counts, in proportion; None for all alike.

    Raises:
        ConfigError: There are too few checkpoints, the weights are no proportions of theirs, or
            the checkpoints do not fit together.
        CheckpointError: A checkpoint cannot be read, or the new one cannot be written.
        TrainingError: What a run left beside its checkpoint cannot be read.
    """
    shares = _shares(directories, weights)
    _check_start(directories)
    first = _load(directories[0])
    total = {name: shares[0] * p.double() for name, p in first.model.named_parameters()}
    for directory, share in zip(directories[1:], shares[1:], strict=True):
        other = _load(directory)
        _check_fit(directories[0], first, directory, other)
        for name, parameter in other.model.named_parameters():
            total[name] += share * parameter.double()
    first.model.load_state_dict({**first.model.state_dict(), **total})
    first.save(output_dir)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A checkpoint of whatever kind.

    Attributes:
        model: The module.
        facts: What all checkpoints must have alike, by what it is called.
        save: Writes the model, with all else that its directory says, into another one.
        tokenizer_dirs: Where its tokenizers are.
    """

    model: nn.Module
    facts: Mapping[str, object]
    save: Callable[[Path], None]
    tokenizer_dirs: tuple[Path, ...]


def _load(directory: Path) -> _Loaded:
    _, raw = read_raw_config(directory)
    if raw.get("model_type") == ENCODER_DECODER:
        return _load_encoder_decoder(directory)
    loaded = load_model(directory)
    save = partial(
        save_checkpoint,
        model=loaded.model,
        config=loaded.config,
        tokenizer_files=read_tokenizer_files(directory),
        extra=loaded.raw_config,
    )
    facts = {
        "task": loaded.task,
        "architecture": loaded.config,
        "labels": label_names(loaded.raw_config),
    }
    return _Loaded(loaded.model, facts, save, (directory,))


def _load_encoder_decoder(directory: Path) -> _Loaded:
    loaded = load_encoder_decoder(directory)
    target_files = read_target_tokenizer_files(directory)
    save = partial(
        save_encoder_decoder,
        model=loaded.model,
        tokenizer_files=read_tokenizer_files(directory),
        decoder_tokenizer_files=target_files or None,
        generation_config=loaded.generation_config,
        extra=loaded.raw_config,
    )
    facts = {"task": ENCODER_DECODER, "architecture": loaded.config}
    places = (directory, directory / TARGET_DIRECTORY) if target_files else (directory,)
    return _Loaded(loaded.model, facts, save, places)


def _shares(directories: Sequence[Path], weights: Sequence[float] | None) -> list[float]:
    """Return what each checkpoint is multiplied with; together 1."""
    count = len(directories)
    if count < 2:
        raise ConfigError(f"models: got {count}, want at least 2 to average")
    if weights is None:
        return [1.0 / count] * count
    if len(weights) != count:
        raise ConfigError(f"weights: got {len(weights)}, want one for each of the {count} models")
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0.0):
            raise ConfigError(f"weights: got {weight:g}, want numbers above 0")
    return [weight / math.fsum(weights) for weight in weights]


def _check_start(directories: Sequence[Path]) -> None:
    """Refuse runs of this project that started from different checkpoints."""
    # Not at the top: it imports torch, which takes seconds, and --help should not.
    from train.loop.state import find_checkpoint, read_state

    starts: dict[str, Path] = {}
    for directory in directories:
        checkpoint = find_checkpoint(directory)
        if checkpoint is not None:
            start = read_state(checkpoint).fingerprint.get("checkpoint_sha256")
            if start is not None:
                starts.setdefault(start, directory)
    if len(starts) > 1:
        one, other, *_ = starts.values()
        raise ConfigError(
            f"models: {one} and {other} were fine-tuned from different checkpoints; "
            "an average of their weights means nothing"
        )


def _check_fit(first_dir: Path, first: _Loaded, directory: Path, loaded: _Loaded) -> None:
    for what, want in first.facts.items():
        got = loaded.facts.get(what)
        if got != want:
            raise ConfigError(
                f"models: {what} of {directory}: got {got}, but {first_dir} has {want}"
            )
    if len(first.tokenizer_dirs) != len(loaded.tokenizer_dirs):
        counts = (len(loaded.tokenizer_dirs), len(first.tokenizer_dirs))
        raise ConfigError(
            f"models: tokenizers of {directory}: got {counts[0]}, but {first_dir} has {counts[1]}"
        )
    for our_dir, other_dir in zip(first.tokenizer_dirs, loaded.tokenizer_dirs, strict=True):
        ours, other = (Tokenizer.from_directory(path) for path in (our_dir, other_dir))
        mismatch = difference(ours, other)
        if mismatch is not None:
            raise ConfigError(
                f"models: the tokenizer of {other_dir} is another than {our_dir}'s: {mismatch}"
            )


def main(argv: Sequence[str]) -> int:
    """Average the models that the command line names.

    Args:
        argv: The arguments.

    Returns:
        0; every failure is an exception.
    """
    args = _parser().parse_args(argv)
    output_dir: Path = args.output_dir
    if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise InputError(f"output_dir: {output_dir} is there and no empty directory")
    average_checkpoints(args.models, output_dir, weights=args.weights)
    print(f"{output_dir}: the average of {len(args.models)} models")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("train.average", "Average models fine-tuned from the same start.")
    parser.add_argument("--models", required=True, nargs="+", metavar="DIR", type=Path)
    parser.add_argument(
        "--weights", nargs="+", metavar="W", type=float, help="left out: all models count alike"
    )
    parser.add_argument("--output_dir", required=True, metavar="DIR", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
