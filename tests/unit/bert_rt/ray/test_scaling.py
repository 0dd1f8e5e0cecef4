"""How many replicas Ray Serve should have, by the tokens that they report."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from bert_rt.ray import QueueTokens


def _context(tokens: dict[str, float] | None, current: int, target: int | None = None) -> Any:
    metrics = None if tokens is None else {"queue_tokens": tokens}
    return SimpleNamespace(
        aggregated_metrics=metrics,
        current_num_replicas=current,
        target_num_replicas=current if target is None else target,
    )


@pytest.mark.parametrize(
    ("tokens", "current", "want"),
    [
        ({"a": 1000.0}, 1, 1),
        ({"a": 1001.0}, 1, 2),
        ({"a": 5000.0, "b": 3000.0}, 2, 8),
        ({"a": 100.0, "b": 0.0, "c": 0.0}, 3, 1),
        ({"a": 0.0}, 1, 0),  # Ray keeps min_replicas
        # The second one has not reported: it is taken to be as busy as the first.
        ({"a": 2000.0}, 2, 4),
    ],
)
def test_replicas_share_the_tokens(tokens: dict[str, float], current: int, want: int) -> None:
    assert QueueTokens(1000)(_context(tokens, current)) == (want, {})


@pytest.mark.parametrize("tokens", [None, {}])
def test_without_reports_nothing_changes(tokens: dict[str, float] | None) -> None:
    assert QueueTokens()(_context(tokens, 2, target=3)) == (3, {})


@pytest.mark.parametrize("target", [0, -1, math.inf, math.nan])
def test_aims_that_are_none(target: float) -> None:
    with pytest.raises(ValueError, match=r"target_queue_tokens: got .*, want a number above 0"):
        QueueTokens(target)
