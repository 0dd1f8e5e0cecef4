"""Tests of compile.tasks.golden."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.manifest import Manifest
from bert_rt.tasks import selftest
from compile.tasks import golden
from tests.unit.compile import tiny


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime.load(tiny.exports().int8_dir, engine="onnxruntime") as opened:
        yield opened


def test_items_with_any_lead_are_valid(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "_MIN_LEAD", 0.0)
    items = golden.golden_items(runtime)
    assert len(items) == len(golden._QUESTIONS)
    for item in items:
        assert item["context"][item["start"] : item["end"]] == item["text"]
        assert item["context"] in golden._CONTEXTS
    # What the manifest takes, and what the engine gives again.
    manifest: Manifest = dataclasses.replace(runtime.manifest, self_test=items)
    selftest.run_self_test(runtime.session, runtime.task, manifest, runtime.info)


def test_items_without_a_clear_lead_are_left_out(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "_MIN_LEAD", 1e6)
    assert golden.golden_items(runtime) == ()


def test_the_lead_is_beyond_what_a_self_test_allows() -> None:
    # Two logits make a score: with less, an engine within the tolerance may answer otherwise.
    assert 2 * max(selftest.LOGIT_ATOL.values()) <= golden._MIN_LEAD


def test_questions_are_about_their_passages() -> None:
    for question, index in golden._QUESTIONS:
        assert question.endswith("?")
        assert len(golden._CONTEXTS[index]) > len(question)
