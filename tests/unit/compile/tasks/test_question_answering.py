"""Tests of compile.tasks.question_answering."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.manifest import Manifest
from bert_rt.errors import CalibrationError, ConfigError
from bert_rt.tasks import selftest
from bert_rt.tasks.question_answering.evaluation import AnswerEvaluation
from bert_rt.tasks.question_answering.squad import SquadExample
from compile.report.changes import Change
from compile.tasks import question_answering
from compile.tasks.base import Settings
from compile.tasks.question_answering import QuestionAnswering, equal_answers
from tests.unit.compile import tiny


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime.load(tiny.exports().int8_dir, engine="onnxruntime") as opened:
        yield opened


def test_items_with_any_lead_are_valid(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuestionAnswering, "golden_lead", 0.0)
    items = QuestionAnswering(Settings()).golden_items(runtime)
    assert len(items) == len(question_answering._QUESTIONS)
    for item in items:
        assert item["context"][item["start"] : item["end"]] == item["text"]
        assert item["context"] in question_answering._CONTEXTS
    # What the manifest takes, and what the engine gives again.
    manifest: Manifest = dataclasses.replace(runtime.manifest, self_test=items)
    selftest.run_self_test(runtime.session, runtime.task, manifest, runtime.info)


def test_items_without_a_clear_lead_are_left_out(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QuestionAnswering, "golden_lead", 1e6)
    assert QuestionAnswering(Settings()).golden_items(runtime) == ()


def test_the_lead_is_beyond_what_a_self_test_allows() -> None:
    # Two logits make a score: with less, an engine within the tolerance may answer otherwise.
    assert 2 * max(selftest.LOGIT_ATOL.values()) <= QuestionAnswering.golden_lead


def test_questions_are_about_their_passages() -> None:
    for question, index in question_answering._QUESTIONS:
        assert question.endswith("?")
        assert len(question_answering._CONTEXTS[index]) > len(question)


TASK = QuestionAnswering(Settings())
EXAMPLES = [SquadExample(name, "", f"{name}?", "c", (), (), True) for name in "abcd"]


def evaluation(f1_N: list[float], texts: list[str]) -> AnswerEvaluation:
    predictions = dict(zip("abcd", texts, strict=True))
    zeros = np.zeros(4)
    return AnswerEvaluation(0.0, 0.0, 4, 1.0, predictions, zeros, np.array(f1_N), zeros, None, 1.0)


FLOAT = evaluation([1.0, 0.5, 0.5, 0.0], ["one", "two", "", "four"])
INT8 = evaluation([1.0, 0.75, 0.0, 0.0], ["one", "TWO", "three", "five"])


def test_equal_answers() -> None:
    assert equal_answers(FLOAT, INT8, EXAMPLES).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_worst_come_first() -> None:
    assert TASK.changes(FLOAT, INT8, EXAMPLES) == [
        Change("c?", "", "three", 0.5, 0.0),
        Change("d?", "four", "five", 0.0, 0.0),
        Change("b?", "two", "TWO", 0.5, 0.75),
    ]
    assert TASK.changes(FLOAT, FLOAT, EXAMPLES) == []


def example(name: str, context: str) -> SquadExample:
    return SquadExample(name, "", "Who?", context, (), (), True)


def test_disjoint_passages() -> None:
    TASK.check_disjoint([example("1", "one")], [example("1", "two")], field="f")
    TASK.check_disjoint([], [example("1", "two")], field="f")
    TASK.check_disjoint([example("1", "one")], [], field="f")


def test_shared_passages() -> None:
    calibration = [example("1", "one"), example("2", "two " * 50), example("3", "three")]
    evaluation = [example("a", "zero"), example("b", "two " * 50), example("c", "three")]
    with pytest.raises(CalibrationError) as caught:
        TASK.check_disjoint(calibration, evaluation, field="calibration_file")
    message = str(caught.value)
    assert message.startswith("calibration_file: shares 2 passages with eval_file")
    assert "the first begins 'two two" in message
    with pytest.raises(CalibrationError, match=r"^score_calibration_file: shares 2 passages"):
        TASK.check_disjoint(calibration, evaluation, field="score_calibration_file")


def test_what_is_evaluated_is_left_out_where_asked(caplog: pytest.LogCaptureFixture) -> None:
    calibration = [example("1", "one"), example("2", "two"), example("3", "one")]
    evaluation = [example("4", "one")]
    left = TASK.without_shared(calibration, evaluation, field="calibration_file")
    assert left == calibration[1:2]
    assert (
        "calibration_file: left out 1 passages that eval_file has, too; the first " in caplog.text
    )
    caplog.clear()
    assert TASK.without_shared(left, evaluation, field="calibration_file") == left
    assert caplog.text == ""


def test_settings_of_other_tasks() -> None:
    for settings, message in (
        (Settings(bars={"min_accuracy_ratio": 0.9}), "min_accuracy_ratio: got 0.9, but F1 is what"),
        (Settings(limits={"num_beams": 4}), "num_beams: got 4, but a question-answering model has"),
        (
            Settings(layout={"text_column": "a"}),
            "a data file of question-answering has no",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            QuestionAnswering(settings)
