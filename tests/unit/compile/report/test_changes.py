"""Tests of compile.report.changes."""

from __future__ import annotations

from compile.report.changes import Change, worst_first


def test_the_worst_come_first() -> None:
    scores = {"same": (0.5, 0.5), "lost": (1.0, 0.0), "won": (0.0, 1.0), "also same": (0.0, 0.0)}
    changes = [Change(name, "a", "b", *pair) for name, pair in scores.items()]
    assert [c.example for c in worst_first(changes)] == ["lost", "same", "also same", "won"]
