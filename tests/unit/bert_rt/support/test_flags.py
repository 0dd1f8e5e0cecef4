"""Tests of bert_rt.support.flags."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bert_rt.errors import ConfigError
from bert_rt.support.cli import make_parser
from bert_rt.support.flags import add_flags, flag, given_flags, known_flags


@dataclass(frozen=True)
class First:
    length: int = 5
    share: float = 0.5
    is_on: bool = False


@dataclass(frozen=True)
class Second:
    length: int = 9
    place: Path | None = field(default=None, metadata=flag(type=Path, help="where it lies"))
    names: Any = field(default=None, metadata=flag(nargs="+", metavar="NAME"))


@dataclass(frozen=True)
class Nothing:
    pass


def parse(*argv: str) -> argparse.Namespace:
    parser = make_parser("a.command", "Test.")
    add_flags(parser, [First, Nothing, Second])
    return parser.parse_args(argv)


def test_what_is_left_out_is_not_there() -> None:
    assert vars(parse()) == {}
    assert given_flags(parse(), [First, Second]) == {}


def test_values_have_the_types_of_the_defaults() -> None:
    args = parse("--length", "5", "--share=-1.5", "--is-on", "--place", "a", "--names", "x", "y")
    assert given_flags(args, [First]) == {"length": 5, "share": -1.5, "is_on": True}
    want = {"length": 5, "place": Path("a"), "names": ["x", "y"]}
    assert given_flags(args, [Second]) == want
    assert given_flags(args, [Nothing]) == {}
    assert Second(**given_flags(args, [Second])).place == Path("a")


@pytest.mark.parametrize("argv", [["--length", "3.5"], ["--share", "x"], ["--is_on", "yes"]])
def test_wrong_values_end_the_command(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*argv)
    assert caught.value.code == 2


def test_help_shows_what_a_field_says(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    assert shown.count("--length N") == 2  # in the usage and in the list
    assert "where it lies" in shown and "--names NAME" in shown


def test_a_flag_of_another_class_is_named() -> None:
    assert known_flags({"length": 3}, First, "a model") == {"length": 3}
    with pytest.raises(ConfigError) as caught:
        known_flags({"length": 3, "names": ["x"]}, First, "a model")
    assert str(caught.value) == (
        "names: got ['x'], but a model has no such setting; it has length, share, is_on"
    )
    with pytest.raises(ConfigError, match=r"^length: got 3, but a file has no such setting$"):
        known_flags({"length": 3}, Nothing, "a file")
