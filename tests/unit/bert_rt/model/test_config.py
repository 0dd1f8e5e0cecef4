"""Configurations: checked when they are made, exact in a JSON round trip."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_rt.errors import ConfigError
from bert_rt.model.config import BertConfig, from_dict, to_dict
from bert_rt.tasks.limits import AnsweringConfig

_BERTS = st.builds(
    lambda heads, head_dim, **rest: BertConfig(
        hidden_size=heads * head_dim, num_attention_heads=heads, **rest
    ),
    heads=st.integers(1, 64),
    head_dim=st.integers(1, 1024),
    vocab_size=st.integers(1, 2**24),
    num_hidden_layers=st.integers(1, 1024),
    layer_norm_eps=st.floats(0, 1),
    hidden_dropout_prob=st.floats(0, 0.99),
)


@given(_BERTS)
def test_json_round_trip_is_exact(config: BertConfig) -> None:
    assert from_dict(BertConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_defaults_are_bert_base() -> None:
    config = BertConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.head_dim) == (768, 12, 64)
    assert from_dict(AnsweringConfig, {}) == AnsweringConfig()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("vocab_size", 2**24 + 1),
        ("hidden_size", 10**9),
        ("hidden_size", 770),
        ("hidden_size", 768.0),
        ("num_attention_heads", True),
        ("num_hidden_layers", -1),
        ("intermediate_size", "3072"),
        ("max_position_embeddings", None),
        ("type_vocab_size", 0),
        ("hidden_act", "relu"),
        ("hidden_act", ["gelu"]),
        ("hidden_dropout_prob", 1.0),
        ("attention_probs_dropout_prob", -0.1),
        ("layer_norm_eps", float("nan")),
        ("initializer_range", float("inf")),
        ("pad_token_id", 30522),
    ],
)
def test_a_wrong_architecture_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"BertConfig\.{field}: got .* want"):
        dataclasses.replace(BertConfig(), **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_seq_length", 7),
        ("max_seq_length", 2**17),
        ("doc_stride", -1),
        ("max_query_length", 0),
        ("n_best_size", 0),
        ("max_answer_length", 0),
        ("null_score_diff_threshold", float("nan")),
        ("version_2_with_negative", 1),
    ],
)
def test_a_wrong_limit_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"AnsweringConfig\.{field}: got .* want"):
        dataclasses.replace(AnsweringConfig(), **{field: value})


def test_windows_must_be_able_to_move() -> None:
    AnsweringConfig(max_seq_length=384, max_query_length=64, doc_stride=316)
    with pytest.raises(ConfigError, match="want less than 317"):
        AnsweringConfig(max_seq_length=384, max_query_length=64, doc_stride=317)


def test_unknown_fields_are_errors_unless_they_are_asked_to_be_left_out() -> None:
    values = to_dict(BertConfig()) | {"architectures": ["BertModel"]}
    with pytest.raises(ConfigError, match="architectures"):
        from_dict(BertConfig, values)
    assert from_dict(BertConfig, values, strict=False) == BertConfig()


def test_missing_fields_are_named() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Needy:
        a: int
        b: int

    with pytest.raises(ConfigError, match=r"missing fields \['a'\]"):
        from_dict(Needy, {"b": 1})


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BertConfig().hidden_size = 1  # type: ignore[misc]
