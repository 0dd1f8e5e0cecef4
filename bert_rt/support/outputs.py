"""The kinds of a model's outputs; apart from types, which needs numpy."""

from __future__ import annotations

__all__ = ["PER_SEQUENCE", "PER_TOKEN"]

PER_TOKEN = "token"
PER_SEQUENCE = "sequence"
