from __future__ import annotations

import re
from typing import Any

import pytest

from bert_rt.errors import ConfigError
from bert_rt.support.cli import make_parser
from train.optim.schedule import progress_of, rate_at
from train.options import TrainOptions, add_training_flags, training_options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "max_steps: got nothing"),
        ({"max_steps": 0}, "max_steps: got 0, want a number from 1"),
        ({"max_steps": 1, "learning_rate": -1.0}, "learning_rate: got -1.0"),
        ({"max_steps": 1, "learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"max_steps": 1, "optimizer": "sgd"}, "optimizer: got 'sgd', want one of adamw, lamb"),
        ({"max_steps": 1, "early_stopping_patience": 2}, "early_stopping_patience: needs"),
    ],
)
def test_bad_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainOptions(**values)


def test_whichever_end_comes_first() -> None:
    assert TrainOptions(max_minutes=1).total_steps(100, 1) is None
    assert TrainOptions(num_train_epochs=1.5).total_steps(100, 1) == 150
    both = TrainOptions(num_train_epochs=2, max_steps=30, gradient_accumulation_steps=4)
    assert both.total_steps(100, 1) == 30
    assert both.total_steps(100, 2) == 25


def test_flags_given_go_before_the_recipe() -> None:
    recipe = {"learning_rate": 1e-4, "num_train_epochs": 2.0}

    def parse(*argv: str) -> TrainOptions:
        parser = make_parser("train.x", "x")
        add_training_flags(parser, recipe)
        return training_options(parser.parse_args(list(argv)), recipe)

    assert parse().num_train_epochs == 2.0
    assert parse("--learning-rate", "3e-5").learning_rate == 3e-5
    assert parse("--max_steps", "7").num_train_epochs is None
    # Time is one more end, beside the recipe's.
    assert parse("--max_minutes", "5").num_train_epochs == 2.0
    assert parse("--torch_compile").torch_compile


def test_what_decides_the_next_step_is_in_the_fingerprint() -> None:
    first = TrainOptions(max_steps=1)
    assert first.fingerprint() == TrainOptions(max_steps=9, save_steps=3).fingerprint()
    assert first.fingerprint() != TrainOptions(max_steps=1, seed=1).fingerprint()


def test_the_rate_rises_and_falls_to_zero() -> None:
    rates = [rate_at(step / 100, 0.1) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == 0.0
    assert max(rates) == pytest.approx(1.0)
    assert rate_at(0.0, 0.0) == 1.0


def test_progress_by_steps_and_by_time() -> None:
    assert progress_of(5, 10, 1e9, None) == 0.5
    assert progress_of(5, None, 30.0, 120.0) == 0.25
    assert progress_of(5, 10, 90.0, 120.0) == 0.75
    assert progress_of(99, 10, 0.0, None) == 1.0
