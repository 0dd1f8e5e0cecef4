"""Names of the inputs and outputs of an encoder-decoder's two graphs, and their empty past."""

from __future__ import annotations

import numpy as np

from bert_rt.types import FloatArray

__all__ = [
    "ATTENTION_MASK",
    "INPUT_IDS",
    "LOGITS",
    "LOG_PROBS",
    "PAST_MASK",
    "POSITION_IDS",
    "PRESENT",
    "SOURCE_MASK",
    "cross_names",
    "empty_past",
    "past_names",
    "present_names",
]

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
POSITION_IDS = "position_ids"
PAST_MASK = "past_mask"
SOURCE_MASK = "source_mask"
LOGITS = "logits"
LOG_PROBS = "log_probs"
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


def empty_past(num_sources: int, num_heads: int, head_dim: int) -> FloatArray:
    """Return a past of no tokens, of one of past_names: shape (B, N, 0, H), float32."""
    return np.zeros((num_sources, num_heads, 0, head_dim), np.float32)


def _names(kind: str, num_layers: int) -> tuple[str, ...]:
    return tuple(
        f"{kind}_{what}.{index}" for index in range(num_layers) for what in ("keys", "values")
    )
