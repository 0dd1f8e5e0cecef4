"""Tests of train.tasks.token_classification."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bert_rt.errors import ConfigError, InputError
from bert_rt.model.checkpoint import label_names, read_config
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import WindowLimits
from bert_rt.tasks.token_classification.labelled import LabelledWords
from bert_rt.tasks.token_classification.layout import WordFields
from tests.support.training import make_checkpoint
from tests.tolerances import FLOAT32_ATOL
from train.recipes import conll
from train.tasks.base import Setup
from train.tasks.token_classification.objective import (
    choose_labels,
    make_tagging,
)
from train.tasks.token_classification.task import Options, TokenClassification

KINDS = {"cat": "ANI", "paris": "LOC"}
_WORDS = ("the", "cat", "sat", "unaffable", "in", "paris", "42")
LABELS = ("O", "B-ANI", "I-ANI", "B-LOC", "I-LOC")


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Make words whose labels can be learnt; some lines are longer than a window."""
    random = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        words = random.choice(_WORDS, random.integers(2, 40)).tolist()
        tags = []
        for index, word in enumerate(words):
            kind = KINDS.get(word)
            place = "I" if index and words[index - 1] == word else "B"
            tags.append("O" if kind is None else f"{place}-{kind}")
        result.append({"words": words, "tags": tags})
    return result


def write(path: Path, made: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    place = tmp_path_factory.mktemp("tagging")
    return Setup(
        model_dir=make_checkpoint(place / "encoder"),
        train_files=[write(place / "train.jsonl", rows(60, 0))],
        validation_file=write(place / "dev.jsonl", rows(20, 1)),
        weights_dir=None,
        limits=WindowLimits(max_seq_length=24, doc_stride=6),
        layout=WordFields(),
        options=Options(),
        batch_size=8,
        seed=3,
    )


def test_every_word_is_learnt_once_an_epoch(setup: Setup) -> None:
    _, objective = make_tagging(setup)
    count = 0
    for index in range(objective.num_micro_batches):
        batch = objective.micro_batch(index)
        tensors = batch.tensors
        assert {tensor.dtype for tensor in tensors.values()} == {torch.int64}
        assert tensors["labels"].shape == tensors["input_ids"].shape
        assert batch.num_tokens == int(tensors["attention_mask"].sum())
        is_word = tensors["labels"] >= 0
        assert not is_word[:, 0].any() and not is_word[tensors["attention_mask"] == 0].any()
        count += int(is_word.sum())
    assert count == sum(len(row["words"]) for row in rows(60, 0))


def test_labels_stand_at_first_tokens(setup: Setup) -> None:
    _, objective = make_tagging(setup)
    names, found = ("O", "B-ANI", "I-ANI", "B-LOC", "I-LOC"), set()
    for index in range(objective.num_micro_batches):
        tensors = objective.micro_batch(index).tensors
        is_word = tensors["labels"] >= 0
        pairs = zip(tensors["input_ids"][is_word], tensors["labels"][is_word], strict=True)
        found |= {(int(token), names[label]) for token, label in pairs}
    labels: dict[int, set[str]] = {}
    for token, label in found:
        labels.setdefault(token, set()).add(label[2:])
    # A token has labels of one kind, those of its word.
    assert all(len(kinds) == 1 for kinds in labels.values())
    assert len(labels) == len(_WORDS)


def test_the_loss_is_that_of_transformers(setup: Setup, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model, objective = make_tagging(setup)
    objective.save(model, tmp_path / "saved")
    theirs = transformers.BertForTokenClassification.from_pretrained(tmp_path / "saved")
    assert theirs.config.id2label == dict(enumerate(LABELS))
    batch = objective.micro_batch(0).tensors
    loss, parts = objective.loss(model.eval(), batch)
    loss.backward()
    want = theirs.eval()(**batch).loss
    want.backward()
    torch.testing.assert_close(loss, want, atol=FLOAT32_ATOL, rtol=0)
    wanted = dict(theirs.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=FLOAT32_ATOL, rtol=0)
    assert 0 <= parts["train_accuracy"] <= 100


def test_figures_are_those_of_the_runtime(setup: Setup) -> None:
    model, objective = make_tagging(setup)
    figures = objective.evaluate(model.eval())
    assert [*figures] == ["entity_f1", "word_accuracy"] and objective.best_metric == "entity_f1"
    assert 0 <= figures["entity_f1"] < 60 and objective.trivial_loss is not None
    none = replace(setup, validation_file=None)
    assert make_tagging(none)[1].evaluate(model) == {}


def test_saved_labels_are_read_again(setup: Setup, tmp_path: Path) -> None:
    model, objective = make_tagging(setup)
    objective.save(model, tmp_path / "saved")
    _, raw = read_config(tmp_path / "saved")
    assert raw["architectures"] == ["BertForTokenClassification"] and label_names(raw) == LABELS
    assert load_model(tmp_path / "saved").task == "token-classification"
    # A model that has the data's labels keeps its own, in its order.
    examples = [LabelledWords(("a",), ("I-LOC",), "f, line 1")]
    assert choose_labels(examples, raw) == LABELS
    other = [LabelledWords(("a", "b"), ("X", "O"), "f, line 1")]
    assert choose_labels(other, raw) == ("O", "X")
    assert choose_labels(other, raw, ("X", "O", "Y")) == ("X", "O", "Y")
    with pytest.raises(ConfigError, match="label_names: got"):
        choose_labels(other, raw, ("X", "X"))


def test_bad_data_is_named(setup: Setup, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.jsonl", [{"words": ["the", "\u200d1"], "tags": ["O", "B-X"]}])
    with pytest.raises(InputError, match=r"tags: got .B-X., want labels among"):
        make_tagging(replace(setup, train_files=[bad], options=Options(label_names=["O", "Y"])))
    with pytest.raises(ConfigError, match="max_seq_length: got 100, want 8 to the model's 64"):
        make_tagging(replace(setup, limits=WindowLimits(max_seq_length=100, doc_stride=4)))


def test_limits_of_a_run() -> None:
    task = TokenClassification()
    assert task.make_limits({}, conll()) == WindowLimits(max_seq_length=128, doc_stride=32)
    given = {"max_seq_length": 40, "doc_stride": 2}
    assert task.make_limits(given, conll()) == WindowLimits(**given)
