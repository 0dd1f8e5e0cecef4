"""Tests of bert_rt.tasks.question_answering.answering."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bert_rt.artifact.artifact import build_artifact
from bert_rt.artifact.manifest import Manifest, ModelEntry
from bert_rt.errors import ArtifactFormatError, EmptyInputError, InputError, InputTooLongError
from bert_rt.model.config import to_dict
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.features import MAX_QUESTION_CHARS
from bert_rt.tasks.texts import MAX_TEXT_CHARS
from bert_rt.types import PER_SEQUENCE, PER_TOKEN, Question
from tests.unit.bert_rt.artifact.artifact_samples import FILES, sample_fields

TASK = QuestionAnswering()
LIMITS = to_dict(AnsweringConfig())


def models(**outputs: str) -> dict[str, ModelEntry]:
    return {"model": ModelEntry(file="model.onnx", outputs=outputs)}


MODEL = models(start_logits=PER_TOKEN, end_logits=PER_TOKEN)["model"]


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


# What an artifact says


def sample() -> Manifest:
    return build_artifact(files=FILES, **sample_fields()).manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 8}, "want the span of text in context"),
        ({"end": 10**6}, "want the span of text in context"),
        ({"start": -1}, r"self_test\[0\].start: got -1"),
        ({"start": True}, r"self_test\[0\].start: got True"),
        ({"question": None}, r"self_test\[0\].question: got None, want str"),
        ({"end_logit": "7"}, r"self_test\[0\].end_logit: got '7', want a number"),
        ({"more": 1}, r"self_test\[0\]: got"),
    ],
)
def test_self_test_items_are_checked(changes: dict[str, Any], message: str) -> None:
    item = sample_fields()["self_test"][0] | changes
    manifest = build_artifact(files=FILES, **sample_fields()).manifest
    with pytest.raises(ArtifactFormatError, match=message):
        TASK.check_manifest(dataclasses.replace(manifest, self_test=(item,)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a",)}, r"manifest\.labels: got 1 labels, want none for question-answering"),
        ({"self_test": ({},)}, r"manifest\.self_test\[0\]: got \[\], want the fields question"),
        (
            {"limits": {"max_seq_length": 64}},
            r"manifest\.limits: got \['max_seq_length'\], want the",
        ),
        ({"limits": LIMITS | {"more": 1}}, r"manifest\.limits: got .*, want the fields doc_stride"),
        ({"limits": LIMITS | {"doc_stride": -1}}, r"manifest\.limits: .*doc_stride.* got -1"),
        ({"limits": LIMITS | {"n_best_size": "9"}}, r"manifest\.limits: .*n_best_size.* got '9'"),
        ({"models": models(logits=PER_SEQUENCE)}, "outputs: got .*logits.*, want 'start_logits'"),
        (
            {"models": models(start_logits=PER_TOKEN, end_logits=PER_SEQUENCE)},
            "outputs: got .*, want 'end_logits' of kind 'token' for question-answering",
        ),
        ({"models": {"other": MODEL}}, r"manifest\.models: got \['other'\], want 'model' among"),
    ],
)
def test_a_manifest_that_is_not_this_tasks(changes: dict[str, Any], message: str) -> None:
    TASK.check_manifest(sample())
    with pytest.raises(ArtifactFormatError, match=message):
        TASK.check_manifest(dataclasses.replace(sample(), **changes))
