"""Tests of bert_rt.tasks.question_answering.answering: what is a pair, and what is said of others."""

from __future__ import annotations

from typing import Any

import pytest

from bert_rt.errors import EmptyInputError, InputError, InputTooLongError
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.features import MAX_QUESTION_CHARS
from bert_rt.tasks.texts import MAX_TEXT_CHARS
from bert_rt.types import Question

TASK = QuestionAnswering()


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        (("", "x"), EmptyInputError, "pairs[3].question: got ''"),
        (("q", " \n"), EmptyInputError, "pairs[3].context: got ' \\n'"),
        (("q", "a\0b"), InputError, "pairs[3].context: got a NUL character at character 1"),
        (("q", "\ud800"), InputError, "pairs[3].context: got the lone surrogate"),
        (("q", 7), InputError, "pairs[3].context: got int, want str"),
        ((None, "c"), InputError, "pairs[3].question: got NoneType, want str"),
        (
            ("q" * (MAX_QUESTION_CHARS + 1), "c"),
            InputTooLongError,
            "pairs[3].question: got 100001 characters",
        ),
        (
            ("q", "c" * (MAX_TEXT_CHARS + 1)),
            InputTooLongError,
            "pairs[3].context: got 10000001 characters",
        ),
        (("q",), InputError, "pairs[3]: got tuple of 1, want (question, context)"),
        ("qc", InputError, "pairs[3]: got str of 2, want (question, context)"),
        (7, InputError, "pairs[3]: got 7, want (question, context)"),
    ],
)
def test_a_bad_pair_is_named(pair: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        TASK.check_input(pair, "pairs[3]")
    assert str(caught.value).startswith(message)
    assert type(caught.value) is error


def test_pairs_may_be_questions_or_lists() -> None:
    want = Question("q", "c")
    assert (
        TASK.check_input(want)
        == TASK.check_input(["q", "c"])
        == TASK.check_input(("q", "c"))
        == want
    )
