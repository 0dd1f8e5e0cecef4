"""Tests of bert_rt.tasks.flags, and of what a task makes of flags."""

from __future__ import annotations

import argparse

import pytest

from bert_rt.errors import ConfigError
from bert_rt.support.cli import make_parser
from bert_rt.tasks.flags import (
    add_layout_flags,
    add_limit_flags,
    data_files,
    given_layout,
    given_limits,
)
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.registry import TASKS
from bert_rt.tasks.text_classification.rows import Columns

ANSWERING, CLASSIFYING = TASKS["question-answering"], TASKS["text-classification"]


def parse(*argv: str) -> argparse.Namespace:
    parser = make_parser("a.command", "Test.")
    add_limit_flags(parser)
    add_layout_flags(parser)
    return parser.parse_args(argv)


def test_limit_flags_change_only_what_is_given() -> None:
    base = AnsweringConfig(max_seq_length=256, n_best_size=7)
    assert ANSWERING.make_limits(given_limits(parse()), base) == base
    assert ANSWERING.make_limits({}) == AnsweringConfig()
    argv = ["--doc-stride=64", "--null_score_diff_threshold", "-1.5", "--version-2-with-negative"]
    assert ANSWERING.make_limits(given_limits(parse(*argv)), base) == AnsweringConfig(
        max_seq_length=256,
        n_best_size=7,
        doc_stride=64,
        null_score_diff_threshold=-1.5,
        version_2_with_negative=True,
    )
    with pytest.raises(ConfigError, match="doc_stride"):
        ANSWERING.make_limits(given_limits(parse("--doc_stride", "400")), base)


def test_flags_of_another_task_are_refused() -> None:
    args = parse("--doc_stride", "4", "--label_column", "class")
    with pytest.raises(ConfigError, match=r"^doc_stride: got 4, but a text-classification model"):
        CLASSIFYING.make_limits(given_limits(args))
    with pytest.raises(ConfigError, match=r"^label_column: got 'class', but a data file of quest"):
        ANSWERING.make_layout(given_layout(args))
    assert CLASSIFYING.make_layout(given_layout(args)) == Columns(label_column="class")


def test_a_command_for_one_task_has_its_limits_only() -> None:
    parser = make_parser("a.command", "Test.")
    add_limit_flags(parser, [CLASSIFYING])
    assert given_limits(parser.parse_args(["--max_seq_length", "12"])) == {"max_seq_length": 12}
    with pytest.raises(SystemExit):
        parser.parse_args(["--doc_stride", "12"])


def test_help_names_the_files_of_every_task() -> None:
    assert all(task.data_files in data_files() for task in TASKS.values())
