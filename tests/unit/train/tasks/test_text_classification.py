"""Tests of train.tasks.text_classification."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_rt.errors import CheckpointError, ConfigError, InputError
from bert_rt.model.checkpoint import label_names, read_config, save_checkpoint
from bert_rt.tasks.checkpoints import build_model, load_model
from bert_rt.tasks.text_classification.labelled import LabelledText
from bert_rt.tasks.text_classification.rows import Columns
from bert_rt.types import TextInput
from tests.support.data.text import write_vocab
from tests.unit.compile import tiny, tiny_classifier
from train.tasks.text_classification.objective import (
    ClassificationObjective,
    choose_labels,
    make_classification,
)

# The first word tells: learnt in a few steps. Lengths differ.
ROWS = [
    (("cat " if index % 3 else "paris ") + "x " * (index % 7) + str(index), label)
    for index, label in enumerate(("no", "yes", "yes")[index % 3] for index in range(50))
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pretrained encoder, which has no classifier."""
    path = tmp_path_factory.mktemp("classification") / "encoder"
    path.mkdir()
    write_vocab(path)
    files = {"vocab.txt": (path / "vocab.txt").read_bytes()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("pretraining", tiny.CONFIG)
    save_checkpoint(path, model, tiny.CONFIG, tokenizer_files=files)
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier.write_tsv(tmp_path_factory.mktemp("rows") / "train.tsv", ROWS)


def make(
    encoder: Path, rows: Path, **options: object
) -> tuple[torch.nn.Module, ClassificationObjective]:
    settings = {"max_seq_length": 32, "batch_size": 8, "seed": 3} | options
    return make_classification(encoder, [rows], rows, **settings)  # type: ignore[arg-type]


def test_every_text_comes_once_an_epoch_with_its_class(encoder: Path, rows: Path) -> None:
    _, objective = make(encoder, rows)
    assert objective.num_micro_batches == 7
    seen = []
    for index in range(7, 14):
        batch = objective.micro_batch(index)
        tensors = batch.tensors
        assert {t.dtype for t in tensors.values()} == {torch.int64}
        assert tensors["input_ids"].shape == tensors["attention_mask"].shape
        assert batch.num_tokens == int(tensors["attention_mask"].sum())
        assert batch.num_positions == tensors["input_ids"].numel()
        assert not tensors["input_ids"][tensors["attention_mask"] == 0].any()
        seen += tensors["labels"].tolist()
    # "no" before "yes".
    assert sorted(seen) == sorted(int(label == "yes") for _, label in ROWS)


def test_lengths_are_rounded_up_without_changing_the_loss(encoder: Path, rows: Path) -> None:
    losses = []
    for multiple in (1, 16):
        model, objective = make(encoder, rows)
        objective.padding.multiple = multiple
        tensors = objective.micro_batch(0).tensors
        assert tensors["input_ids"].shape[1] % multiple == 0
        losses.append(objective.loss(model.eval(), tensors)[0])
    assert torch.allclose(*losses, atol=1e-6)


def test_batches_are_a_function_of_seed_and_index(encoder: Path, rows: Path) -> None:
    one, again, other = (make(encoder, rows, seed=seed)[1] for seed in (3, 3, 4))
    order = [(i, one.micro_batch(i).tensors["input_ids"]) for i in (9, 0, 3, 9)]
    for index, ids in order:
        assert torch.equal(ids, again.micro_batch(index).tensors["input_ids"])
    assert any(
        not torch.equal(
            one.micro_batch(i).tensors["labels"], other.micro_batch(i).tensors["labels"]
        )
        for i in range(6)
    )


def test_new_heads_come_from_the_seed(encoder: Path, rows: Path) -> None:
    torch.manual_seed(99)
    one, again, other = (make(encoder, rows, seed=seed)[0] for seed in (3, 3, 4))
    weights = [model.get_parameter("classifier.weight") for model in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_trivial_loss_is_the_entropy_of_the_labels(encoder: Path, rows: Path) -> None:
    model, objective = make(encoder, rows)
    share = sum(label == "yes" for _, label in ROWS) / len(ROWS)
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert objective.trivial_loss == pytest.approx(entropy)
    # A model that says nothing but the shares has this loss.
    with torch.no_grad():
        model.get_parameter("classifier.weight").zero_()
        model.get_parameter("classifier.bias").copy_(torch.tensor([1 - share, share]).log())
    losses = [objective.loss(model.eval(), objective.micro_batch(i).tensors) for i in range(7)]
    sizes = [len(objective.micro_batch(i).tensors["labels"]) for i in range(7)]
    mean = np.average([loss.item() for loss, _ in losses], weights=sizes)
    assert mean == pytest.approx(entropy, abs=1e-5)
    accuracy = np.average([parts["train_accuracy"].item() for _, parts in losses], weights=sizes)
    assert accuracy == pytest.approx(100 * share, abs=1e-3)


def test_it_learns_and_saves_what_it_has_learnt(encoder: Path, rows: Path, tmp_path: Path) -> None:
    model, objective = make(encoder, rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    assert objective.evaluate(model.eval())["accuracy"] < 90
    for index in range(21):
        loss, _ = objective.loss(model.train(), objective.micro_batch(index).tensors)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scores = objective.evaluate(model.eval())
    assert set(scores) == {"accuracy", "macro_f1"}
    assert scores["accuracy"] > 95
    objective.save(model, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert loaded.task == "text-classification"
    assert label_names(loaded.raw_config) == ("no", "yes")
    # A resumed run goes on from there.
    resumed, again = make(encoder, rows, weights_dir=tmp_path / "saved")
    assert again.evaluate(resumed.eval()) == scores


def test_evaluation_does_not_depend_on_batches(
    encoder: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, objective = make(encoder, rows)
    want = objective.evaluate(model.eval())
    monkeypatch.setattr("train.tasks.text_classification.objective._EVALUATION_TOKENS", 40)
    assert objective.evaluate(model) == want
    assert make_classification(encoder, [rows], None, max_seq_length=32)[1].evaluate(model) == {}


def labelled(*labels: str) -> list[LabelledText]:
    return [LabelledText(TextInput("a"), label, "f, line 2") for label in labels]


def test_choose_labels() -> None:
    classifier = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "bad", "1": "good", "2": "so-so"},
    }
    assert choose_labels(labelled("x", "a", "x"), {}) == ("a", "x")
    # A checkpoint that classifies keeps its classes where they are the data's.
    assert choose_labels(labelled("good", "bad"), classifier) == ("bad", "good", "so-so")
    assert choose_labels(labelled("0", "2"), classifier) == ("bad", "good", "so-so")
    assert choose_labels(labelled("good", "awful"), classifier) == ("awful", "good")
    pretrained = classifier | {"architectures": ["BertForPreTraining"]}
    assert choose_labels(labelled("good", "bad"), pretrained) == ("bad", "good")
    assert choose_labels(labelled("0", "1"), {}, ["no", "yes"]) == ("no", "yes")
    for names in (["one"], ["a", "a"]):
        with pytest.raises(ConfigError, match="label_names: got"):
            choose_labels(labelled("0", "1"), {}, names)


def test_names_for_numbers(encoder: Path, tmp_path: Path) -> None:
    rows = tiny_classifier.write_tsv(
        tmp_path / "a.tsv", [(text, str(int(label == "yes"))) for text, label in ROWS]
    )
    model, objective = make(encoder, rows, labels=["negative", "positive"])
    objective.save(model, tmp_path / "saved")
    assert label_names(read_config(tmp_path / "saved")[1]) == ("negative", "positive")


def test_what_cannot_be_trained_on(encoder: Path, rows: Path, tmp_path: Path) -> None:
    strange = tiny_classifier.write_tsv(tmp_path / "a.tsv", [("cat", "yes"), ("mat", "maybe")])
    with pytest.raises(InputError, match=r"a\.tsv, line 3: label: got 'maybe', want one of the"):
        make_classification(encoder, [rows], strange, max_seq_length=32)
    empty = tiny_classifier.write_tsv(tmp_path / "b.tsv", [("cat", "yes"), ("\u0301", "no")])
    with pytest.raises(InputError, match=r"b\.tsv, line 3: sentence: got text without a letter"):
        make(encoder, empty)
    with pytest.raises(InputError, match=r"train\.tsv, line 2: got the columns .* 'words'"):
        make(encoder, rows, columns=Columns(text_column="words"))
    for length in (7, 65):
        with pytest.raises(ConfigError, match=f"max_seq_length: got {length}, want 8 to"):
            make(encoder, rows, max_seq_length=length)
    with pytest.raises(CheckpointError, match="no such directory"):
        make(tmp_path / "none", rows)
