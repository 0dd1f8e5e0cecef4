"""The quick way to the best tokens of many rows, beside the plain way for one."""

from __future__ import annotations

import numpy as np
import pytest

from bert_rt.errors import EngineInternalError
from bert_rt.generation.scores import best, best_of_rows, log_softmax


@pytest.mark.parametrize("vocab_size", [3, 127, 128, 257, 1000, 8001, 200_000])
@pytest.mark.parametrize("kind", ["usual", "ties", "near ties", "one is forbidden"])
def test_the_best_of_many_rows_are_those_of_each_to_the_bit(vocab_size: int, kind: str) -> None:
    rng = np.random.default_rng(vocab_size)
    logits = rng.normal(size=(5, vocab_size)).astype(np.float32)
    if kind == "ties":
        logits = np.round(3 * logits)
    elif kind == "near ties":
        # Log probabilities of some that differ are the same.
        logits = np.float32(1.0) + rng.integers(0, 4, logits.shape).astype(np.float32) * 2**-23
    elif kind == "one is forbidden":
        logits[:, 1] = -np.inf
    for count in (1, 2, 9, 60):
        if count >= vocab_size:
            continue
        log_probs, tokens = best_of_rows(logits, count)
        assert log_probs.dtype == np.float32
        for row, scores in enumerate(log_softmax(logits)):
            want = best(scores, count) if count > 1 else [np.argmax(logits[row])]
            assert tokens[row].tolist() == list(want)
            assert log_probs[row].tolist() == scores[want].tolist()
        # The same where something else has computed the log probabilities.
        again = best_of_rows(logits, count, log_softmax(logits))
        assert np.array_equal(again[0], log_probs)
        assert np.array_equal(again[1], tokens)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error(count: int, value: float) -> None:
    logits = np.zeros((3, 300), np.float32)
    logits[1, 7] = value
    with pytest.raises(EngineInternalError, match="no numbers"):
        best_of_rows(logits, count)
    with pytest.raises(EngineInternalError, match="no numbers"):
        best_of_rows(logits, count, np.full_like(logits, np.nan))
    with pytest.raises(EngineInternalError, match="no numbers"):
        log_softmax(logits)
