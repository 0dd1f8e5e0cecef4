"""Unit tests of train.data.phases."""

from __future__ import annotations

from typing import Any

import pytest

from bert_rt.errors import ConfigError
from bert_rt.model.architectures import ARCHITECTURES
from bert_rt.model.config import BertConfig
from train.data.phases import Phase, check_phases, paper_phases


def config_of(model_type: str, **more: Any) -> BertConfig:
    row = ARCHITECTURES[model_type]
    return BertConfig(
        model_type=model_type,
        max_position_embeddings=66,
        type_vocab_size=0 if row.token_types == "none" else 2,
        **more,
    )


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("pad_token_id", [0, 1, 5])
def test_the_longest_sequence_is_the_architecture_s(model_type: str, pad_token_id: int) -> None:
    config = config_of(model_type, pad_token_id=pad_token_id)
    # In some, the first token's position is the one after the padding's id.
    follows = ARCHITECTURES[model_type].positions_follow_padding
    longest = 66 - (pad_token_id + 1 if follows else 0)
    check_phases((Phase(max_seq_length=longest, batch_size=1),), config)
    short = Phase(max_seq_length=16, batch_size=1, num_micro_batches=3)
    too_long = Phase(max_seq_length=longest + 1, batch_size=1)
    with pytest.raises(ConfigError, match=rf"got {longest + 1}, .*longest sequence \({longest}\)"):
        check_phases((short, too_long), config)


def test_phases_that_do_not_follow_each_other() -> None:
    config = config_of("bert")
    endless, bounded = (
        Phase(max_seq_length=8, batch_size=1),
        Phase(max_seq_length=8, batch_size=1, num_micro_batches=1),
    )
    check_phases((bounded, bounded), config)
    with pytest.raises(ConfigError, match="phases: got none"):
        check_phases((), config)
    with pytest.raises(ConfigError, match="only the last one may have no number"):
        check_phases((endless, endless), config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_seq_length": 4}, "max_seq_length: got 4, want at least 5"),
        ({"batch_size": 0}, "batch_size: got 0, want at least 1"),
        ({"num_micro_batches": 0}, "num_micro_batches: got 0, want at least 1 or none"),
    ],
)
def test_a_phase_that_cannot_be(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Phase(**{"max_seq_length": 8, "batch_size": 1, **values})


def test_nine_tenths_of_the_run_are_short() -> None:
    first, last = paper_phases(100, 4, lengths=(32, 64))
    assert (first.max_seq_length, first.batch_size, first.num_micro_batches) == (32, 4, 90)
    assert (last.max_seq_length, last.batch_size, last.num_micro_batches) == (64, 4, None)


@pytest.mark.parametrize(
    ("num_micro_batches", "first_share", "lengths"),
    [(1, 0.9, [32]), (2, 0.9, [32]), (10, 0.9, [32, 64]), (1, 0.1, [64]), (4, 0.1, [64])],
)
def test_a_run_too_short_for_two_phases_has_one(
    num_micro_batches: int, first_share: float, lengths: list[int]
) -> None:
    phases = paper_phases(num_micro_batches, 1, lengths=(32, 64), first_share=first_share)
    assert [phase.max_seq_length for phase in phases] == lengths
    assert phases[-1].num_micro_batches is None
    check_phases(phases, config_of("bert"))


@pytest.mark.parametrize("first_share", [0.0, 1.0, -0.1])
def test_a_share_out_of_range(first_share: float) -> None:
    with pytest.raises(ConfigError, match="first_share: got"):
        paper_phases(10, 1, first_share=first_share)
