"""What a task's graph has behind the encoder: linear layers, and how often rules match there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["GraphHead"]


@dataclass(frozen=True, slots=True)
class GraphHead:
    """A head, as the passes over the graph need to know it.

    Attributes:
        linear_layers: Names of its linear layers in the graph's order, such as "classifier".
        fusions: Rule name to the number of its matches in the head.
    """

    linear_layers: tuple[str, ...] = ()
    fusions: Mapping[str, int] = field(default_factory=dict)
