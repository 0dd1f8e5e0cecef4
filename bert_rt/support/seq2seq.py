"""Names of the inputs and outputs of an encoder-decoder's two graphs."""

from __future__ import annotations

__all__ = [
    "ATTENTION_MASK",
    "BEAM_IDX",
    "INPUT_IDS",
    "LOGITS",
    "PAST_MASK",
    "POSITION_IDS",
    "PRESENT",
    "SOURCE_MASK",
    "cross_names",
    "past_names",
    "present_names",
]

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"
BEAM_IDX = "beam_idx"
PAST_MASK = "past_mask"
SOURCE_MASK = "source_mask"
LOGITS = "logits"
# What the names of a step's outputs begin with that the next step reads.
PRESENT = "present_"


def cross_names(num_layers: int) -> tuple[str, ...]:
    """Return the names of cross attention's keys and values, layer by layer."""
    return _names("cross", num_layers)


def past_names(num_layers: int) -> tuple[str, ...]:
    """Return the names of self-attention's keys and values of the tokens so far."""
    return _names("past", num_layers)


def present_names(num_layers: int) -> tuple[str, ...]:
    """Return the names of self-attention's keys and values with those of this token."""
    return _names("present", num_layers)


def _names(kind: str, num_layers: int) -> tuple[str, ...]:
    return tuple(
        f"{kind}_{what}.{index}" for index in range(num_layers) for what in ("keys", "values")
    )
