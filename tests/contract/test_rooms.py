"""Names of tasks, and checks for a task's shape, stand in the rooms of the tasks only.

What is new about a task is then one room in each program and one line in each registry; the
toy-task test (tests/e2e/test_toy_task.py) adds one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from bert_rt.tasks.registry import TASKS

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("bert_rt", "compile", "train")
_ROOMS = ("bert_rt/tasks/", "bert_rt/pipelines/", "compile/tasks/", "train/tasks/")
# What version 1 of the artifact format meant is frozen, and it knew two tasks.
_HISTORY = "bert_rt/artifact/version_1.py"

_SHAPES = {
    "a flag for one task": r"\bis_spans\b|\bis_classifi|\bis_question",
    "an output of one task": r"\b(start|end)_logits\b",
    # `if task.labels`, `not manifest.labels`, `x if self.labels else y`, `bool(a.labels)`
    "labels as a sign of the task": (
        r"\b(if|elif|while|and|or|not)\s+[\w.]*\.labels\b(?!\s*(==|!=|\.|\[|,|\)))"
        r"|\bbool\([\w.]*\.labels\)|[\w.]*\.labels\s+(and|or|if)\b"
    ),
}


def _spellings(name: str) -> list[str]:
    words = name.split("-")
    camel = "".join(word.capitalize() for word in words)
    return ["-".join(words), "_".join(words), camel, " ".join(words)]


def _patterns() -> dict[str, str]:
    names = {name: "|".join(map(re.escape, _spellings(name))) for name in TASKS}
    # The class of Transformers says the task's name in other words.
    classes = [suffix for task in TASKS.values() for suffix in task.head_spec.class_suffixes]
    return {**names, "a class of a task": "|".join(classes), **_SHAPES}


def _found(text: str, patterns: Mapping[str, str]) -> list[str]:
    return [
        f"line {number}: {what}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in patterns.items()
        if re.search(pattern, line)
    ]


def _files() -> list[str]:
    paths = (path for package in _PACKAGES for path in (_ROOT / package).rglob("*.py"))
    return sorted(path.relative_to(_ROOT).as_posix() for path in paths)


_OUTSIDE = [name for name in _files() if not name.startswith(_ROOMS) and name != _HISTORY]


@pytest.mark.parametrize("name", _OUTSIDE)
def test_nothing_outside_the_rooms_knows_a_task(name: str) -> None:
    assert _found((_ROOT / name).read_text(), _patterns()) == []


def test_there_is_something_to_look_at() -> None:
    assert len(_OUTSIDE) > 100
    assert _found((_ROOT / _HISTORY).read_text(), _patterns()), "needs no exception any more"
    for room in _ROOMS:
        files = [name for name in _files() if name.startswith(room)]
        assert any(_found((_ROOT / name).read_text(), _patterns()) for name in files), room


@pytest.mark.parametrize(
    "line",
    [
        'if task == "question-answering":',
        "from train.tasks.text_classification import make",
        "class BertForQuestionAnswering(nn.Module):",
        '    "text-classification": ("ForSequenceClassification",),',
        "start, end = outputs['start_logits'], outputs['end_logits']",
        "if not task.labels:",
        "head = A if manifest.labels else B",
        "return bool(self.labels) and is_spans",
        "x = runtime.manifest.labels or ()",
    ],
)
def test_what_the_patterns_find(line: str) -> None:
    assert _found(line, _patterns())


@pytest.mark.parametrize(
    "line",
    [
        "labels=task.labels,",
        "task.check_labels(manifest.labels)",
        "if len(manifest.labels) != count:",
        "from bert_rt.tasks.registry import find_task",
        "outputs = {name: manifest.outputs[name] for name in names}",
    ],
)
def test_what_the_patterns_leave(line: str) -> None:
    assert not _found(line, _patterns())
