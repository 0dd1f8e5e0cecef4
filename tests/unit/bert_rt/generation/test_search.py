"""Searches over decoders that are tables: ties, limits, who leaves when, and bad configurations."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bert_rt.errors import ConfigError, InputError
from bert_rt.generation.config import GenerationConfig
from bert_rt.generation.loop import generate
from bert_rt.generation.scores import best, log_softmax

_IDS: dict[str, Any] = {"decoder_start_token_id": 1, "eos_token_ids": (2,), "pad_token_id": 0}
_VOCAB_SIZE = 6


class TableDecoder:
    """Scores that depend on the source and all tokens so far, drawn by their hash."""

    def __init__(self, sources: list[int], max_target_length: int = 64) -> None:
        self.max_target_length = max_target_length
        self.rows: list[tuple[int, ...]] = [(source,) for source in sources]
        self.num_rows: list[int] = []

    def step(self, tokens: Any, beam_idx: Any) -> Any:
        pairs = zip(tokens, beam_idx, strict=True)
        self.rows = [(*self.rows[parent], int(token)) for token, parent in pairs]
        self.num_rows.append(len(self.rows))
        return np.stack([scores_of(row) for row in self.rows])


class EqualDecoder(TableDecoder):
    """All tokens are as good as any other."""

    def step(self, tokens: Any, beam_idx: Any) -> Any:
        return np.zeros_like(super().step(tokens, beam_idx))


def scores_of(row: tuple[int, ...]) -> Any:
    return np.random.default_rng(row).normal(0.0, 2.0, _VOCAB_SIZE).astype(np.float32)


def config_of(**fields: Any) -> GenerationConfig:
    return GenerationConfig(**{**_IDS, **fields})


def test_wide_beams_find_the_best_of_all_targets() -> None:
    length = 4
    config = config_of(
        num_beams=200, max_new_tokens=length, length_penalty=0.0, early_stopping="never"
    )
    (found,) = generate(TableDecoder([7]), 1, config)
    totals = {}
    for tokens in itertools.product(range(_VOCAB_SIZE), repeat=length):
        if 2 in tokens:
            tokens = tokens[: tokens.index(2) + 1]
        row, total = (7, 1), 0.0
        for token in tokens:
            total += float(log_softmax(scores_of(row))[token])
            row = (*row, token)
        totals[(1, *tokens)] = total
    want = max(totals, key=totals.__getitem__)
    assert found[0].token_ids == want
    assert found[0].score == pytest.approx(totals[want], abs=1e-4)


def test_equal_scores_are_taken_in_a_fixed_order() -> None:
    scores = np.array([1.0, 3.0, 3.0, 0.0, 3.0, 1.0], np.float32)
    assert best(scores, 2).tolist() == [1, 2]
    assert best(scores, 4).tolist() == [1, 2, 4, 0]
    assert best(scores, 6).tolist() == [1, 2, 4, 0, 5, 3]
    config = config_of(num_beams=3, num_return_sequences=3, max_new_tokens=2)
    (found,) = generate(EqualDecoder([7]), 1, config)
    assert [h.token_ids for h in found] == [(1, 2), (1, 0, 0), (1, 0, 1)]
    (found,) = generate(EqualDecoder([7]), 1, config_of(max_new_tokens=3))
    assert found[0].token_ids == (1, 0, 0, 0)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_finished_source_leaves(num_beams: int) -> None:
    sources = list(range(12))
    config = config_of(num_beams=num_beams, max_new_tokens=30, early_stopping=True)
    decoder = TableDecoder(sources)
    together = generate(decoder, len(sources), config)
    assert together == [generate(TableDecoder([source]), 1, config)[0] for source in sources]
    assert decoder.num_rows[0] == 12
    assert decoder.num_rows[1] <= 12 * num_beams
    assert decoder.num_rows[-1] < 12 * num_beams
    assert generate(TableDecoder([]), 0, config) == []


def test_no_target_is_longer_than_the_model_has_positions() -> None:
    config = config_of(num_beams=2, max_new_tokens=50, min_new_tokens=40)
    for limit in (2, 9):
        (found,) = generate(TableDecoder([3], max_target_length=limit), 1, config)
        assert len(found[0].token_ids) == limit


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 0}, "max_length: got 0, want an integer from 2"),
        ({"max_length": 1}, "max_length: got 1, want an integer from 2"),
        ({"max_new_tokens": 0}, "max_new_tokens: got 0, want an integer from 1"),
        ({"max_length": True}, "max_length: got True"),
        ({"num_beams": 0}, "num_beams: got 0"),
        ({"num_beams": 2.0}, r"num_beams: got 2\.0"),
        ({"num_return_sequences": 2}, "num_return_sequences: got 2, want an integer from 1 to 1"),
        ({"min_length": 30}, "min_length: got at least 30 tokens and at most 20"),
        ({"min_new_tokens": -1}, "min_new_tokens: got -1"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size: got -1"),
        ({"length_penalty": float("nan")}, "length_penalty: got nan, want a number"),
        ({"length_penalty": "1"}, "length_penalty: got '1', want a number"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty: got 0\.0, want a number above 0"),
        ({"early_stopping": "always"}, "early_stopping: got 'always', want True, False or 'never'"),
        ({"early_stopping": 1}, "early_stopping: got 1, want"),
        ({"eos_token_id": []}, "eos_token_id: got none"),
        ({"eos_token_id": -2}, "eos_token_id: got -2"),
        ({"do_sample": True}, "do_sample: got True, want False: only greedy and beam search"),
        ({"num_beam_groups": 2}, "num_beam_groups: got 2, want 1"),
        ({"bad_words_ids": [[3]]}, "bad_words_ids: got"),
        ({"length_penalti": 1.0}, r"arguments: got \['length_penalti'\], which are unknown"),
    ],
)
def test_bad_arguments(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of().updated(fields)


def test_what_a_checkpoint_says() -> None:
    ids = {"decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    defaults = {**ids, "num_beams": 4, "max_new_tokens": 256}
    config = GenerationConfig.from_values({"transformers_version": "4.57.6"}, defaults)
    assert (config.num_beams, config.longest) == (4, 257)
    # The checkpoint's length takes the place of the default's, whichever form either has.
    config = GenerationConfig.from_values({"max_length": 50, "eos_token_id": [2, 5]}, defaults)
    assert (config.longest, config.eos_token_ids) == (50, (2, 5))
    assert config.updated({"max_new_tokens": 7}).longest == 8
    assert config.updated({"max_length": 9, "num_beams": None}).longest == 9
    assert config.updated({"min_new_tokens": 3}).updated({"min_length": 2}).least_length == 2
    with pytest.raises(ConfigError, match=r"generation_config.json: do_sample: got True"):
        GenerationConfig.from_values({"do_sample": True}, defaults)
