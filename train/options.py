"""How a training run is carried out: what all tasks have in common, and its flags."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bert_rt.errors import ConfigError

__all__ = ["TrainOptions", "add_training_flags", "training_options"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a training run is carried out.

    A run ends at the first of num_train_epochs, max_steps and max_minutes that is given; the
    learning rate reaches 0 there.

    Attributes:
        learning_rate: The largest learning rate.
        optimizer: "adamw", or "lamb" for batches of thousands of sequences.
        weight_decay: Of all parameters but biases and layer norms.
        layer_decay: Learning rate of a layer over that of the layer above it.
        adam_beta1: Decay of the gradient's running mean.
        adam_beta2: Decay of the squared gradient's running mean.
        adam_epsilon: Added to the root of the squared gradient's mean.
        max_grad_norm: Largest norm of the gradient; 0 for no limit.
        dropout: Probability for hidden states; None for what the model's configuration says.
        num_train_epochs: Passes over the training data; may be a fraction.
        max_steps: Steps of the optimizer.
        max_minutes: Time, that of checkpoints and evaluations on the way included.
        warmup_ratio: Share of the run in which the learning rate rises from 0.
        gradient_accumulation_steps: Micro-batches of a step, on each process.
        logging_steps: Steps between two lines of metrics.jsonl.
        save_steps: Steps between two checkpoints; 0 for one at the end only.
        save_total_limit: Checkpoints kept.
        eval_steps: Steps between two evaluations; 0 for one at the end only.
        early_stopping_patience: Evaluations in a row without a better score that end the run; 0
            for no end.
        seed: Decides the order of the data, new weights, masks and dropout.
        precision: "fp32", "bf16" (autocast), or "auto": bf16 where the device multiplies it.
        device: "cpu", "cuda" or "auto".
        torch_compile: Whether torch compiles the model, which takes minutes and a C++ compiler.
    """

    learning_rate: float = 5e-5
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    dropout: float | None = None
    num_train_epochs: float | None = None
    max_steps: int | None = None
    max_minutes: float | None = None
    warmup_ratio: float = 0.06
    gradient_accumulation_steps: int = 1
    logging_steps: int = 20
    save_steps: int = 500
    save_total_limit: int = 2
    eval_steps: int = 0
    early_stopping_patience: int = 0
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"
    torch_compile: bool = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range, or nothing ends the run.
        """
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name}: got {value}, want a number from {low:g} to {high:g}")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"{name}: got {value!r}, want one of {', '.join(choices)}")
        if self.num_train_epochs is self.max_steps is self.max_minutes is None:
            raise ConfigError("max_steps: got nothing, want it, num_train_epochs or max_minutes")
        if self.early_stopping_patience and not self.eval_steps:
            raise ConfigError("early_stopping_patience: needs eval_steps, got 0")

    def total_steps(self, num_micro_batches: int, num_processes: int) -> int | None:
        """Count the steps of the run.

        Args:
            num_micro_batches: Micro-batches of an epoch, over all processes.
            num_processes: Processes that train together.

        Returns:
            The steps, at least 1; None where only time ends the run.
        """
        ends = [] if self.max_steps is None else [self.max_steps]
        if self.num_train_epochs is not None:
            step = self.gradient_accumulation_steps * num_processes
            ends.append(max(1, math.ceil(self.num_train_epochs * num_micro_batches / step)))
        return min(ends, default=None)

    def fingerprint(self) -> dict[str, Any]:
        """Return what a resumed run must have in common with the run it continues."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in _FREE}


# What may differ in a resumed run, because no step but the last depends on it. How the run ends
# may, too: the learning rate then follows the new schedule from there.
_FREE = frozenset(
    {
        "device",
        "early_stopping_patience",
        "eval_steps",
        "logging_steps",
        "max_minutes",
        "max_steps",
        "num_train_epochs",
        "save_steps",
        "save_total_limit",
    }
)
_CHOICES = {
    "optimizer": ("adamw", "lamb"),
    "precision": ("auto", "fp32", "bf16"),
    "device": ("auto", "cpu", "cuda"),
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "learning_rate": (0.0, 10.0),
    "weight_decay": (0.0, 10.0),
    "layer_decay": (0.01, 1.0),
    "adam_beta1": (0.0, 0.99999),
    "adam_beta2": (0.0, 0.999999),
    "adam_epsilon": (1e-12, 1.0),
    "max_grad_norm": (0.0, 1e9),
    "dropout": (0.0, 0.9),
    "num_train_epochs": (1e-6, 1e6),
    "max_steps": (1, 1e12),
    "max_minutes": (1e-3, 1e7),
    "warmup_ratio": (0.0, 1.0),
    "gradient_accumulation_steps": (1, 1e6),
    "logging_steps": (1, 1e9),
    "save_steps": (0, 1e12),
    "save_total_limit": (1, 1e6),
    "eval_steps": (0, 1e12),
    "early_stopping_patience": (0, 1e6),
    "seed": (0, 2**63 - 1),
}
_OPTIONAL: Mapping[str, Callable[[str], Any]] = {
    "dropout": float,
    "num_train_epochs": float,
    "max_steps": int,
    "max_minutes": float,
}


def add_training_flags(parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> None:
    """Add a flag for every field of TrainOptions, under its own name.

    Args:
        parser: The command's parser.
        defaults: The command's own defaults, for --help; training_options takes them again.
    """
    group = parser.add_argument_group("training")
    for field in dataclasses.fields(TrainOptions):
        flag = f"--{field.name}"
        default = defaults.get(field.name, field.default)
        # SUPPRESS tells "not given" from "given as the default": a recipe changes the latter.
        shared: dict[str, Any] = {"default": argparse.SUPPRESS, "help": f"default: {default}"}
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", default=argparse.SUPPRESS)
        elif field.name in _CHOICES:
            group.add_argument(flag, choices=_CHOICES[field.name], **shared)
        else:
            kind = _OPTIONAL.get(field.name, type(field.default))
            group.add_argument(flag, type=kind, metavar="N", **shared)


def training_options(args: argparse.Namespace, defaults: Mapping[str, Any]) -> TrainOptions:
    """Make the options from the flags of add_training_flags.

    An end that is given on the command line replaces the default one.

    Args:
        args: The parsed command line.
        defaults: Values for what was left out.

    Returns:
        The options, checked.

    Raises:
        ConfigError: A value is out of range.
    """
    names = {field.name for field in dataclasses.fields(TrainOptions)}
    given = {name: value for name, value in vars(args).items() if name in names}
    values = dict(defaults)
    if "max_steps" in given or "num_train_epochs" in given:
        for name in ("max_steps", "num_train_epochs"):
            values.pop(name, None)
    return TrainOptions(**{**values, **given})
