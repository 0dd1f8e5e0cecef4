"""Tests of bert_rt.tasks.text_classification.classes."""

from __future__ import annotations

import numpy as np
import pytest

from bert_rt.tasks.text_classification.classes import rank_classes


def test_rank_classes() -> None:
    logits = np.array([1.0, 3.0, 3.0, -1000.0], np.float32)
    result = rank_classes(logits, "abcd", top_k=4)
    # Of equal classes the first is the best; a hopeless one is 0, not a warning.
    assert [r.label for r in (result, *result.alternatives)] == ["b", "c", "a", "d"]
    assert result.alternatives[-1].score == 0
    assert rank_classes(np.array([9000.0, 0.0], np.float32), "ab").score == 1


@pytest.mark.parametrize("temperature", [0.01, 0.5, 2.0, 100.0])
def test_a_temperature_changes_scores_and_nothing_else(temperature: float) -> None:
    logits = np.array([1.0, 3.0, 2.5], np.float32)
    result = rank_classes(logits, "abc", top_k=3, score_temperature=temperature)
    ranked = (result, *result.alternatives)
    assert [r.label for r in ranked] == ["b", "c", "a"]
    assert [r.logit for r in ranked] == [3.0, 2.5, 1.0] and result.logits == (1.0, 3.0, 2.5)
    weights = np.exp((logits.astype(float) - 3) / temperature)
    wanted = (weights / weights.sum())[[1, 2, 0]]
    np.testing.assert_allclose([r.score for r in ranked], wanted, rtol=1e-12)
