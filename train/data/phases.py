"""The parts of a pretraining run: first many short sequences, then some long ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bert_rt.errors import ConfigError
from bert_rt.model.config import BertConfig
from train.data.pairs import NUM_SPECIAL_TOKENS

__all__ = ["Phase", "check_phases", "paper_phases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run with sequences of one length.

    Attributes:
        max_seq_length: Most tokens of a sequence, special tokens included.
        batch_size: Sequences of a micro-batch.
        num_micro_batches: How long the phase lasts; None, in the last one, to the run's end.
    """

    max_seq_length: int
    batch_size: int
    num_micro_batches: int | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: A field is out of range.
        """
        low = NUM_SPECIAL_TOKENS + 2
        if self.max_seq_length < low:
            raise ConfigError(f"max_seq_length: got {self.max_seq_length}, want at least {low}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: got {self.batch_size}, want at least 1")
        if self.num_micro_batches is not None and self.num_micro_batches < 1:
            raise ConfigError(
                f"num_micro_batches: got {self.num_micro_batches}, want at least 1 or none"
            )


def paper_phases(
    num_micro_batches: int,
    batch_size: int,
    *,
    lengths: tuple[int, int] = (128, 512),
    first_share: float = 0.9,
) -> tuple[Phase, ...]:
    """Return the paper's phases: 90 % of the steps with 128 tokens, the rest with 512.

    Args:
        num_micro_batches: Micro-batches of the whole run.
        batch_size: Sequences of a micro-batch, in both phases.
        lengths: The sequence length of each phase.
        first_share: The first phase's share of the micro-batches, between 0 and 1.

    Returns:
        The phases; only one where the run is too short for two.

    Raises:
        ConfigError: A value is out of range.

    Source: Devlin et al. 2018, appendix A.2.
    """
    if not 0 < first_share < 1:
        raise ConfigError(f"first_share: got {first_share}, want between 0 and 1")
    num_first = round(first_share * num_micro_batches)
    first, last = (Phase(max_seq_length=length, batch_size=batch_size) for length in lengths)
    if num_first >= num_micro_batches:
        return (first,)
    if num_first < 1:
        return (last,)
    return (replace(first, num_micro_batches=num_first), last)


def check_phases(phases: Sequence[Phase], config: BertConfig) -> None:
    """Check that phases fit a model and each other.

    Args:
        phases: In their order.
        config: The model's architecture.

    Raises:
        ConfigError: There are none, one has longer sequences than the model, or one that is not
            the last has no end.
    """
    if not phases:
        raise ConfigError("phases: got none, want at least one")
    for phase in phases:
        if phase.max_seq_length > config.max_sequence_length:
            raise ConfigError(
                f"max_seq_length: got {phase.max_seq_length}, want at most the model's longest "
                f"sequence ({config.max_sequence_length})"
            )
    if any(phase.num_micro_batches is None for phase in phases[:-1]):
        raise ConfigError("phases: only the last one may have no number of micro-batches")
