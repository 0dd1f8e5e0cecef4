"""A run's checkpoints: the model in the Hugging Face layout and, beside it, the trainer's state.

    OUTPUT_DIR/checkpoint-00000500/
        config.json, model.safetensors, tokenizer.json, ...    a checkpoint like any other
        optimizer.safetensors     running means, "exp_avg.<parameter>" and "exp_avg_sq.<parameter>"
        trainer_state.json        the step, what has been counted, and what the run was started with

A checkpoint has its name only once it is whole and on the disk. All that is random in a run
depends on the seed and the index of the micro-batch, so no generator needs to be stored.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bert_rt.errors import TrainingError
from bert_rt.support.files import atomic_directory, atomic_write_json
from bert_rt.tasks.checkpoints import load_model
from train.optim.optimizers import AdamW

__all__ = [
    "TrainerState",
    "find_checkpoint",
    "load_state",
    "load_weights",
    "read_state",
    "save_state",
]

_STATE = "trainer_state.json"
_OPTIMIZER = "optimizer.safetensors"
_PREFIX = "checkpoint-"
_MEANS = ("exp_avg", "exp_avg_sq")
# What checkpoints of older versions do not hold: there is nothing to compare with.
_ADDED = frozenset(
    {
        "held_out_fraction",
        "initialization",
        "layout",
        "options",
        "tokenizer_sha256",
        "vocab_size",
    }
)


@dataclass
class TrainerState:
    """How far a run has come.

    Attributes:
        step: Steps of the optimizer.
        elapsed_s: Seconds of training, over all of its sessions.
        num_tokens: Tokens that were no padding, over all processes.
        evaluated_step: The step after which the model was scored last; 0 before.
        best_score: The best value of the objective's best_metric; None before the first one.
        best_step: The step that it was measured after.
        num_bad_evaluations: Evaluations since then.
        fingerprint: What the run was started with.
    """

    step: int = 0
    elapsed_s: float = 0.0
    num_tokens: int = 0
    evaluated_step: int = 0
    best_score: float | None = None
    best_step: int = 0
    num_bad_evaluations: int = 0
    fingerprint: dict[str, Any] = field(default_factory=dict)


def find_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint of a run, None where there is none."""
    found = sorted(path for path in output_dir.glob(f"{_PREFIX}*") if (path / _STATE).is_file())
    return found[-1] if found else None


def save_state(
    output_dir: Path,
    state: TrainerState,
    optimizer: AdamW,
    save_model: Callable[[Path], None],
    *,
    keep: int,
) -> Path:
    """Write a checkpoint, whole or not at all, and remove the oldest ones.

    Args:
        output_dir: The run's directory.
        state: How far the run has come.
        optimizer: Its running means are stored.
        save_model: Writes the model into a directory.
        keep: Checkpoints that stay, this one included.

    Returns:
        The checkpoint.

    Raises:
        OSError: The disk is full, or the directory cannot be written.
    """
    from safetensors.torch import save_file

    path = output_dir / f"{_PREFIX}{state.step:08d}"
    # One of this name can only be what a run wrote that is being done again from before it.
    with atomic_directory(path, can_replace=lambda old: (old / _STATE).is_file()) as staged:
        save_model(staged)
        tensors = {
            f"{kind}.{name}": optimizer.state[parameter][kind].cpu().contiguous()
            for name, parameter in _named_parameters(optimizer)
            for kind in _MEANS
            if optimizer.state[parameter]
        }
        save_file(tensors, staged / _OPTIMIZER)
        atomic_write_json(staged / _STATE, dataclasses.asdict(state))
    for old in sorted(output_dir.glob(f"{_PREFIX}*"))[:-keep]:
        shutil.rmtree(old)
    return path


def read_state(path: Path) -> TrainerState:
    """Read how far the run of a checkpoint has come; a TrainingError where it is damaged."""
    try:
        raw = json.loads((path / _STATE).read_bytes())
        state = TrainerState(**raw)
    except (OSError, TypeError, ValueError) as error:
        raise TrainingError(f"{path / _STATE}: cannot be read: {error}") from error
    if "evaluated_step" not in raw:  # written when a step was scored before it was saved
        state.evaluated_step = state.step
    return state


def load_state(path: Path, optimizer: AdamW, fingerprint: Mapping[str, Any]) -> TrainerState:
    """Read a checkpoint's state.

    Args:
        path: The checkpoint.
        optimizer: Gets the running means.
        fingerprint: What this run is started with; it must equal what the checkpoint's was.

    Returns:
        How far the run has come.

    Raises:
        TrainingError: The checkpoint is damaged, or of a run with other data or options.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state = read_state(path)
    try:
        tensors = load_file(path / _OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path / _OPTIMIZER}: cannot be read: {error}") from error
    _check_fingerprint(path, fingerprint, state.fingerprint)
    for name, parameter in _named_parameters(optimizer):
        for kind in _MEANS:
            tensor = tensors.get(f"{kind}.{name}")
            if tensor is None or tensor.shape != parameter.shape:
                raise TrainingError(f"{path / _OPTIMIZER}: no {kind} of {name} in its shape")
            optimizer.state[parameter][kind] = tensor.to(parameter.device)
    for group in optimizer.param_groups:
        group["num_steps"] = state.step
    return state


def _check_fingerprint(path: Path, given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in sorted({*given, *wanted}):
        if name in _ADDED and name not in wanted:
            continue
        got, want = given.get(name), wanted.get(name)
        if isinstance(got, Mapping) and isinstance(want, Mapping):
            _check_fingerprint(path, got, want)
        elif got != want:
            raise TrainingError(f"{name}: got {got!r}, but {path} was trained with {want!r}")


def load_weights(path: Path, model: nn.Module) -> None:
    """Give a model the weights of a checkpoint of its own run, bit for bit."""
    loaded = load_model(path)
    model.load_state_dict(loaded.model.state_dict())


def _named_parameters(optimizer: AdamW) -> list[tuple[str, Any]]:
    return [
        item
        for group in optimizer.param_groups
        for item in zip(group["names"], group["params"], strict=True)
    ]
