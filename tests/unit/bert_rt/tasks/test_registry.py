"""Tests of bert_rt.tasks.registry, with a task that lives in this file only."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_rt.api import Runtime
from bert_rt.artifact.artifact import load_artifact
from bert_rt.errors import ArtifactFormatError, ConfigError
from bert_rt.tasks import registry
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.registry import TASKS, find_task, register, task_of_artifact
from tests.support.artifacts import LIMITS, PAIRS, write_tiny_artifact


class Shouting(QuestionAnswering):
    """Answers questions under another name."""

    name = "shouting"
    noun = "shouts"


@pytest.fixture
def shouting(monkeypatch: pytest.MonkeyPatch) -> Shouting:
    """Register the task for one test."""
    for name, task in registry._TASKS.items():
        monkeypatch.setitem(registry._TASKS, name, task)
    task = Shouting()
    monkeypatch.setitem(registry._TASKS, task.name, task)
    register(task)
    return task


def test_the_tasks_by_name() -> None:
    assert list(TASKS) == [
        "question-answering",
        "text-classification",
        "token-classification",
        "summarization",
        "translation",
    ]
    for name, task in TASKS.items():
        assert task.name == name
        assert find_task(name) is task_of_artifact(name) is task
        assert callable(getattr(Runtime, task.method))


def test_nobody_changes_the_table_but_register() -> None:
    with pytest.raises(TypeError):
        TASKS["a"] = QuestionAnswering()  # type: ignore[index]


@pytest.mark.parametrize("name", ["", "poetry", "Question-Answering"])
def test_an_unknown_name(name: str) -> None:
    known = ", ".join(TASKS)
    message = f"task: got {name!r}, want one of {known}"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        find_task(name)
    with pytest.raises(ArtifactFormatError, match=rf"^manifest\.{message}$"):
        task_of_artifact(name)


def test_a_registered_task_is_what_its_artifacts_are_asked_with(
    shouting: Shouting, tmp_path: Path
) -> None:
    assert find_task("shouting") is shouting
    write_tiny_artifact(tmp_path / "a", task="shouting")
    write_tiny_artifact(tmp_path / "b")
    with (
        Runtime.load(tmp_path / "a", engine="onnxruntime") as runtime,
        Runtime.load(tmp_path / "b", engine="onnxruntime") as plain,
    ):
        assert runtime.task is shouting and runtime.limits == LIMITS
        assert runtime.ask_batch(PAIRS) == plain.answer_batch(PAIRS)
        with pytest.raises(Exception, match=r"^shouts\[1\]\.question: got ''"):
            runtime.ask_batch([PAIRS[0], ("", "x")])


def test_a_task_of_the_same_name_takes_the_place(shouting: Shouting) -> None:
    other = Shouting()
    register(other)
    assert find_task("shouting") is other is not shouting


def test_an_artifact_of_an_unknown_task_is_read_and_not_opened(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "a", task="poetry")
    artifact = load_artifact(tmp_path / "a")
    message = "manifest.task: got 'poetry', want one of question-answering, text-class"
    for engine in ("auto", "onnxruntime", "reference"):
        with pytest.raises(ArtifactFormatError, match=message) as caught:
            Runtime.open(artifact, engine=engine)
        assert str(caught.value).startswith(f"{tmp_path / 'a'}: manifest.task")
