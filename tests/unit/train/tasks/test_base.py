"""What of a task's options and files a resumed run must have in common with the one before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.training import make_checkpoint
from train.tasks.base import Setup, TrainTask
from train.tasks.registry import TRAIN_TASKS

# Another value than the default one, where it is not the default plus something.
OTHERS: dict[str, Any] = {
    "label_names": ["no", "yes"],
    "sentence_labels": "soft",
    "decoder_hidden_size": 64,
    "num_split_layers": 0,
    "teacher_states_weight": 1.0,
}


def setup_of(task: TrainTask, **values: Any) -> Setup:
    parts: dict[str, Any] = {
        "limits": task.make_limits({}, task.default_recipe()),
        "layout": task.task.make_layout({}),
        "options": task.make_options({}),
    }
    return Setup(
        model_dir=Path("model"),
        train_files=[Path("train.json")],
        validation_file=None,
        weights_dir=None,
        batch_size=8,
        seed=0,
        **{**parts, **values},
    )


def other_value(name: str, value: Any, place: Path) -> Any:
    if name == "teacher":
        return make_checkpoint(place / "teacher")
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) else value + 1


@pytest.mark.parametrize("name", sorted(TRAIN_TASKS))
def test_every_option_that_a_step_depends_on_counts(name: str, tmp_path: Path) -> None:
    task = TRAIN_TASKS[name]
    first = task.fingerprint(setup_of(task))
    assert first == json.loads(json.dumps(first))  # as a checkpoint gives it back
    fields = {field.name for field in dataclasses.fields(task.options_class)}
    assert task.free_options <= fields
    options = task.make_options({})
    for field in sorted(fields):
        value = other_value(field, getattr(options, field), tmp_path)
        other = task.fingerprint(
            setup_of(task, options=dataclasses.replace(options, **{field: value}))
        )
        assert (other == first) == (field in task.free_options), field
        assert other == json.loads(json.dumps(other))


@pytest.mark.parametrize("name", sorted(TRAIN_TASKS))
def test_limits_and_layouts_count(name: str) -> None:
    task = TRAIN_TASKS[name]
    first = task.fingerprint(setup_of(task))
    limits = task.make_limits({"max_seq_length": 300}, task.default_recipe())
    assert task.fingerprint(setup_of(task, limits=limits)) != first
    fields = [field.name for field in dataclasses.fields(task.task.layout_class)]
    if fields:
        given = {field: f"my_{field}" for field in fields}
        other = task.fingerprint(setup_of(task, layout=task.task.make_layout(given)))
        assert other != first
        assert other == json.loads(json.dumps(other))


def test_a_teacher_is_known_by_its_weights(tmp_path: Path) -> None:
    task = TRAIN_TASKS["question-answering"]
    prints = []
    for directory, seed in (("a", 0), ("b", 0), ("c", 1)):
        teacher = make_checkpoint(tmp_path / directory, seed=seed)
        options = task.make_options({"teacher": teacher})
        prints.append(task.fingerprint(setup_of(task, options=options)))
    assert prints[0] == prints[1] != prints[2]
