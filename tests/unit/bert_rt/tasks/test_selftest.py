"""Tests of bert_rt.tasks.selftest: what compile writes, and what a wrong engine runs into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bert_rt.api import Runtime
from bert_rt.errors import EmptyInputError, EngineError
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.selftest import LOGIT_ATOL, make_self_test
from tests.support.artifacts import LIMITS, PAIRS, write_tiny_artifact

TASK = QuestionAnswering()
OPTIONS = CallOptions(limits=LIMITS)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], ...]:
    path = tmp_path_factory.mktemp("selftest") / "artifact"
    write_tiny_artifact(path)
    with Runtime.load(path, engine="onnxruntime") as runtime:
        return make_self_test(runtime.session, TASK, PAIRS, runtime.options())


def test_items_say_what_was_answered(items: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    assert [(item["question"], item["context"]) for item in items] == list(PAIRS)
    write_tiny_artifact(tmp_path / "a", self_test=items)
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        for item, answer in zip(items, runtime.answer_batch(PAIRS), strict=True):
            assert (item["text"], item["start"]) == (answer.text, answer.start)
            assert item["start_logit"] + item["end_logit"] == pytest.approx(answer.logit, abs=1e-5)


def test_unclear_answers_make_no_items(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a")
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        assert make_self_test(runtime.session, TASK, PAIRS, OPTIONS, min_lead=100.0) == ()
        with pytest.raises(EmptyInputError, match=r"self_test\.context"):
            make_self_test(runtime.session, TASK, [("who", "")], OPTIONS)


def test_no_answer_is_an_item_too(tmp_path: Path) -> None:
    limits = LIMITS.__class__(
        **{
            **{name: getattr(LIMITS, name) for name in LIMITS.__dataclass_fields__},
            "version_2_with_negative": True,
            "null_score_diff_threshold": -1e6,
        }
    )
    write_tiny_artifact(tmp_path / "a", limits=limits)
    with Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime:
        items = make_self_test(
            runtime.session, TASK, PAIRS, CallOptions(limits=limits), min_lead=-1e6
        )
        answers = runtime.answer_batch(PAIRS)
    assert [item["text"] for item in items] == [""] * len(PAIRS)
    for item, answer in zip(items, answers, strict=True):
        assert item["start_logit"] + item["end_logit"] == pytest.approx(answer.null_score, abs=1e-5)
    write_tiny_artifact(tmp_path / "b", limits=limits, self_test=items)
    Runtime.load(tmp_path / "b", engine="onnxruntime").close()


@pytest.mark.parametrize("name", ["start_logit", "end_logit"])
def test_a_logit_that_is_off_is_refused(
    items: tuple[dict[str, Any], ...], tmp_path: Path, name: str
) -> None:
    for shift, is_allowed in ((0.5, True), (1.5, False)):
        value = items[1][name] + shift * LOGIT_ATOL["float32"]
        changed = (items[0], {**items[1], name: value})
        write_tiny_artifact(tmp_path / "a", self_test=changed)
        if is_allowed:
            Runtime.load(tmp_path / "a", engine="onnxruntime").close()
            continue
        with pytest.raises(EngineError, match=rf"self_test\[1\]\.{name}: got .*, want .* within"):
            Runtime.load(tmp_path / "a", engine="onnxruntime")


def test_another_answer_is_refused(items: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    context = items[0]["context"]
    changed = {**items[0], "start": 0, "end": 3, "text": context[:3]}
    write_tiny_artifact(tmp_path / "a", self_test=(changed,))
    with pytest.raises(EngineError, match=r"self_test\[0\]\.text: got .*, want 'The'; the engine"):
        Runtime.load(tmp_path / "a", engine="onnxruntime")


def test_other_tokens_are_found_at_load(items: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    assert all(len(item["token_ids"]) == 2 for item in items)
    changed = [dict(item) for item in items]
    changed[1]["token_ids"] = [changed[1]["token_ids"][0], [*changed[1]["token_ids"][1], 7]]
    write_tiny_artifact(tmp_path / "a", self_test=changed)
    message = r"self_test\[1\]\.token_ids: got .*, want .*; tokenizers .* splits text otherwise"
    with pytest.raises(EngineError, match=message):
        Runtime.load(tmp_path / "a", engine="onnxruntime")


def test_items_of_older_releases_have_no_token_ids(
    items: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    older = [{k: v for k, v in item.items() if k != "token_ids"} for item in items]
    write_tiny_artifact(tmp_path / "a", self_test=older)
    Runtime.load(tmp_path / "a", engine="onnxruntime").close()
