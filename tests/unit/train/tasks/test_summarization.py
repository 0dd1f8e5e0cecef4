"""Tests of train.tasks.summarization."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bert_rt.errors import ConfigError
from bert_rt.tasks.checkpoints import load_model
from bert_rt.tasks.limits import SummaryConfig
from tests.support.training import make_checkpoint
from tests.tolerances import FLOAT32_ATOL
from train.recipes import scitldr
from train.tasks.base import Setup
from train.tasks.summarization.objective import make_summarizing
from train.tasks.summarization.task import Options, Summarization

ROWS = [
    {"text": "The cat sat on it. Who is in paris? A mat. " * (1 + n % 3), "summary": "who in paris"}
    for n in range(12)
]


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    place = tmp_path_factory.mktemp("summarizing")
    file = place / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Setup(
        model_dir=make_checkpoint(place / "encoder"),
        train_files=[file],
        validation_file=file,
        weights_dir=None,
        limits=SummaryConfig(
            max_seq_length=40, doc_stride=12, max_sentence_length=20, max_sentences=1
        ),
        layout=None,
        options=Options(sentence_labels="greedy"),
        batch_size=4,
        seed=3,
    )


def test_every_sentence_is_learnt_once_an_epoch(setup: Setup) -> None:
    model, objective = make_summarizing(setup)
    counts = {0: 0, 1: 0}
    for index in range(objective.num_micro_batches):
        tensors = objective.micro_batch(index).tensors
        is_own = tensors["sentence"] >= 0
        assert not torch.isin(tensors["input_ids"][is_own], torch.tensor([0, 2, 3])).any()
        assert tensors["sentence"][is_own].unique().tolist() == [*range(len(tensors["labels"]))]
        for label in counts:
            counts[label] += int((tensors["labels"] == label).sum())
    # One sentence of each document is chosen: the first "Who is in paris?".
    assert counts == {0: sum(3 * (1 + n % 3) for n in range(12)) - 12, 1: 12}
    assert set(objective.evaluate(model.eval())) == {"rouge1", "rouge2", "rougeL"}
    assert make_summarizing(replace(setup, validation_file=None))[1].evaluate(model) == {}


def test_the_loss_is_the_mean_over_sentences(setup: Setup) -> None:
    model, objective = make_summarizing(setup)
    tensors = objective.micro_batch(0).tensors
    loss, _ = objective.loss(model.eval(), tensors)
    with torch.no_grad():
        logits = model(*(tensors[n] for n in ("input_ids", "attention_mask", "token_type_ids")))
    terms = []
    for number, label in enumerate(tensors["labels"]):
        logit = logits[..., 0][tensors["sentence"] == number].mean()
        terms.append(-F.logsigmoid(logit if label else -logit))
    torch.testing.assert_close(loss, torch.stack(terms).mean(), atol=FLOAT32_ATOL, rtol=0)


def test_soft_labels_share_out_one_place(setup: Setup) -> None:
    model, objective = make_summarizing(
        replace(setup, options=Options(sentence_labels="soft", rouge_temperature=20.0))
    )
    tensors = objective.micro_batch(0).tensors
    labels = tensors["labels"]
    for row in tensors["sentence"]:
        shares = labels[row[row >= 0].unique()]
        assert shares.min() > 0 and len(shares.unique()) > 1
    # With the labels' own logits nothing is left to learn.
    perfect = torch.logit(labels.clamp(min=0.01, max=0.99))[tensors["sentence"].clamp(min=0)]
    loss, _ = objective.loss(_Fixed(perfect), tensors)
    assert abs(loss.item()) < 1e-3
    assert objective.loss(model.eval(), tensors)[0].item() > loss.item() + 0.01
    assert objective.trivial_loss is not None and 0 < objective.trivial_loss < 0.5


class _Fixed(torch.nn.Module):
    """Gives the same logits always."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        del inputs
        return self.logits[..., None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentence_labels": "hard"}, "sentence_labels: got 'hard', want greedy or soft"),
        ({"rouge_temperature": 0.0}, "rouge_temperature: got 0.0, want a number from 0.01"),
        ({"rouge_temperature": float("nan")}, "rouge_temperature: got nan, want a number"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**options)


def test_what_is_saved_is_read_again(setup: Setup, tmp_path: Path) -> None:
    model, objective = make_summarizing(setup)
    objective.save(model, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert (loaded.task, loaded.new_keys) == ("summarization", ())
    with pytest.raises(ConfigError, match="max_seq_length: got 100, want 8 to the model's 64"):
        make_summarizing(
            replace(
                setup, limits=SummaryConfig(max_seq_length=100, doc_stride=4, max_sentence_length=9)
            )
        )


def test_limits_of_a_run() -> None:
    task = Summarization()
    want = SummaryConfig(max_seq_length=384, doc_stride=96, max_sentence_length=128)
    assert task.make_limits({}, scitldr()) == want
    want = SummaryConfig(max_seq_length=40, doc_stride=3, max_sentence_length=38, max_sentences=1)
    given = {"max_seq_length": 40, "doc_stride": 3, "max_sentences": 1}
    assert task.make_limits(given, scitldr()) == want
