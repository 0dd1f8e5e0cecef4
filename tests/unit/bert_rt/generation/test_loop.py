"""Searches that come and go, and steps of which only the best tokens are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import BestStepDecoder, Searches, generate
from bert_rt.generation.scores import log_softmax
from tests.unit.bert_rt.generation.test_search import TableDecoder, config_of

_VOCAB_SIZE = 6
# Of a sum of log probabilities, added up in another order.
_SCORE_ATOL = 1e-5


class JoiningTable(TableDecoder):
    """The same scores for rows of any lengths, or only the best of them."""

    vocab_size = _VOCAB_SIZE

    def __init__(self, sources: Sequence[int] = ()) -> None:
        super().__init__(list(sources))
        self.most_rows = 0
        self.full_steps = self.best_steps = 0

    @property  # type: ignore[override]
    def num_rows(self) -> int:
        return len(self.rows)

    @num_rows.setter
    def num_rows(self, value: Any) -> None:
        del value

    def admit(self, sources: Sequence[int]) -> None:
        self.rows += [(source,) for source in sources]

    def _step(self, tokens: Any, beam_idx: Any) -> Any:
        pairs = zip(tokens, beam_idx, strict=True)
        self.rows = [(*self.rows[parent], int(token)) for token, parent in pairs]
        self.most_rows = max(self.most_rows, len(self.rows))
        rng = [np.random.default_rng(row) for row in self.rows]
        return np.stack([g.normal(0.0, 2.0, _VOCAB_SIZE).astype(np.float32) for g in rng])

    def step(self, tokens: Any, beam_idx: Any) -> Any:
        self.full_steps += 1
        return self._step(tokens, beam_idx)

    def step_best(self, tokens: Any, beam_idx: Any, count: int) -> Any:
        self.best_steps += 1
        return self.best(self._step(tokens, beam_idx), count)

    def best(self, logits: Any, count: int) -> Any:
        order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(log_softmax(logits), order, 1), order.astype(np.int32)


def random_config(rng: np.random.Generator) -> GenerationConfig:
    beams = int(rng.integers(1, 4))
    fields: dict[str, Any] = {
        "num_beams": beams,
        "num_return_sequences": int(rng.integers(1, beams + 1)),
        "max_new_tokens": int(rng.integers(1, 9)),
        "length_penalty": float(rng.choice([0.5, 1.0, 2.0])),
        "early_stopping": [True, False, "never"][int(rng.integers(3))],
    }
    rule = rng.integers(6)
    if rule == 0:
        fields["min_new_tokens"] = fields["max_new_tokens"] // 2
    elif rule == 1:
        fields["no_repeat_ngram_size"] = 2
    elif rule == 2:
        fields["repetition_penalty"] = 1.3
    elif rule == 3:
        fields["forced_bos_token_id"] = 4
    elif rule == 4:
        fields["forced_eos_token_id"] = 2
    return config_of(**fields)


@pytest.mark.parametrize("seed", range(40))
def test_every_search_finds_what_it_finds_alone(seed: int) -> None:
    """Whoever else is searched for, and with the best tokens alone, results are the same."""
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    waiting, places = list(range(10, 22)), 3
    decoder = JoiningTable([waiting.pop(0) for _ in range(places)])
    assert isinstance(decoder, BestStepDecoder)

    searches = Searches(decoder)
    found = [searches.add(config) for _ in range(places)]
    while len(searches):
        assert searches.step()
        more = [waiting.pop(0) for _ in range(min(places - len(searches), len(waiting)))]
        decoder.admit(more)
        found += [searches.add(config) for _ in more]
    assert not waiting
    assert decoder.most_rows <= places * config.num_beams
    for source, search in zip(range(10, 22), found, strict=True):
        got = search.results()
        alone = TableDecoder([source])
        assert not isinstance(alone, BestStepDecoder)
        (want,) = generate(alone, 1, config)
        assert [h.token_ids for h in got] == [h.token_ids for h in want]
        np.testing.assert_allclose(
            [h.score for h in got], [h.score for h in want], atol=_SCORE_ATOL
        )


def test_only_the_best_tokens_are_asked_for_where_that_will_do() -> None:
    decoder = JoiningTable([20, 21])
    generate(decoder, 2, config_of(num_beams=2, max_new_tokens=6, no_repeat_ngram_size=3))
    assert decoder.best_steps > 0
    assert decoder.full_steps == 0
    decoder = JoiningTable([20, 21])
    # More tokens are asked for than there are.
    generate(decoder, 2, config_of(num_beams=4, max_new_tokens=6))
    assert decoder.best_steps == 0
