"""Training a reader with split layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bert_rt.errors import ConfigError
from bert_rt.model.checkpoint import read_config
from bert_rt.tasks.limits import AnsweringConfig
from tests.support.training import CONFIG, make_checkpoint, make_squad
from train.recipes import squad
from train.tasks.base import Setup
from train.tasks.distillation import load_teacher, recorded_states, state_distance
from train.tasks.question_answering.task import Options, QuestionAnswering

LIMITS = AnsweringConfig(max_seq_length=48, doc_stride=8, max_query_length=16)


def _setup(tmp_path: Path, **options: object) -> Setup:
    model_dir = tmp_path / "model"
    if not model_dir.exists():
        make_checkpoint(model_dir, "question-answering")
    return Setup(
        model_dir=model_dir,
        train_files=[make_squad(tmp_path / "train.json")],
        validation_file=None,
        weights_dir=None,
        limits=LIMITS,
        layout=None,
        options=Options(**options),  # type: ignore[arg-type]
        batch_size=4,
        seed=0,
    )


def test_windows_are_the_same_for_all_questions_and_fit(tmp_path: Path) -> None:
    _, objective = QuestionAnswering().make(_setup(tmp_path, num_split_layers=1))
    windows = objective._windows  # type: ignore[attr-defined]
    longest = max(window.feature.context_length for window in windows)
    assert longest == 48 - 16 - 3
    assert max(window.feature.num_tokens for window in windows) < 48


def test_the_checkpoint_says_the_split_and_is_evaluated_with_it(tmp_path: Path) -> None:
    setup = _setup(tmp_path, num_split_layers=1)
    setup = replace(setup, validation_file=setup.train_files[0])
    model, objective = QuestionAnswering().make(setup)
    scores = objective.evaluate(model.eval())
    objective.save(model, tmp_path / "saved")
    config, _ = read_config(tmp_path / "saved")
    assert config == replace(CONFIG, num_split_layers=1, passage_position_offset=18)
    # A run that goes on from there need not say it again, and 0 makes an ordinary model.
    goes_on = replace(setup, model_dir=tmp_path / "saved", options=Options())
    again, other = QuestionAnswering().make(goes_on)
    assert other.evaluate(again.eval()) == scores
    plain = replace(goes_on, options=Options(num_split_layers=0))
    QuestionAnswering().make(plain)[1].save(model, tmp_path / "plain")
    assert read_config(tmp_path / "plain")[0] == CONFIG


def test_questions_of_one_passage_stand_together(tmp_path: Path) -> None:
    counts = []
    for options in ({}, {"num_split_layers": 1}):
        _, objective = QuestionAnswering().make(_setup(tmp_path, **options))
        rows = [objective.micro_batch(i).tensors for i in range(objective.num_micro_batches)]
        passages = [
            {
                tuple(ids[types == 1].tolist())
                for ids, types in zip(batch["input_ids"], batch["token_type_ids"], strict=True)
            }
            for batch in rows
        ]
        counts.append(sum(map(len, passages)) / sum(len(batch["input_ids"]) for batch in rows))
    # Of the rows that a batch has, so many have a passage of their own.
    assert counts[1] < 0.7 * counts[0]


def test_no_split_is_the_ordinary_model(tmp_path: Path) -> None:
    losses = []
    for options in ({}, {"num_split_layers": 0}):
        model, objective = QuestionAnswering().make(_setup(tmp_path, **options))
        losses.append(objective.loss(model.eval(), objective.micro_batch(0).tensors)[0])
    assert torch.equal(*losses)


def test_a_resumed_run_must_have_the_same_split(tmp_path: Path) -> None:
    task = QuestionAnswering()
    plain, split = (
        task.fingerprint(replace(_setup(tmp_path, **options), layout=LIMITS))
        for options in ({}, {"num_split_layers": 1, "teacher_states_weight": 2.0})
    )
    assert split["options"] == plain["options"] | {
        "num_split_layers": 1,
        "teacher_states_weight": 2.0,
        "passages": "their questions in one batch",
    }
    assert task.default_recipe() == squad()


def test_windows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    setup = _setup(tmp_path, num_split_layers=1)
    _, objective = QuestionAnswering().make(setup)
    objective.save(QuestionAnswering().make(setup)[0], tmp_path / "saved")
    again = replace(setup, model_dir=tmp_path / "saved", options=Options())
    for limits, message in (
        (replace(LIMITS, max_query_length=17), "max_query_length: got 17, want at most 16"),
        (
            replace(LIMITS, max_seq_length=64, max_query_length=8),
            "max_seq_length: got 64, want at most 56 with max_query_length 8",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            QuestionAnswering().make(replace(again, limits=limits))
    fits = replace(LIMITS, max_seq_length=56, max_query_length=8)
    QuestionAnswering().make(replace(again, limits=fits))


def test_states_of_upper_layers_are_learnt(tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "teacher", "question-answering", seed=1)
    setup = _setup(
        tmp_path,
        num_split_layers=1,
        teacher=other,
        teacher_states_weight=3.0,
        teacher_weight=0.25,
    )
    model, objective = QuestionAnswering().make(setup)
    # Guessing is no measure of a loss with a temperature and states in it.
    assert objective.trivial_loss is None
    assert QuestionAnswering().make(_setup(tmp_path))[1].trivial_loss is not None
    tensors = objective.micro_batch(0).tensors
    loss, figures = objective.loss(model.eval(), tensors)
    want = 0.75 * figures["answer_loss"] + 0.25 * figures["teacher_loss"]
    want = want + 3.0 * figures["state_distance"]
    torch.testing.assert_close(loss.detach(), want)
    # The one layer above the split one; the hooks are gone afterwards.
    inputs = [tensors[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    with recorded_states(model, 1) as states:
        model(*inputs)
    assert [tuple(x.shape[:2]) for x in states] == [tuple(tensors["input_ids"].shape)]
    model(*inputs)
    assert len(states) == 1
    loss.backward()
    lowest = model.bert.encoder.layer[0].output.dense.weight  # type: ignore[union-attr, operator]
    assert float(lowest.grad.abs().max()) > 0


def test_distance_is_relative_and_without_padding() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0]])
    want = (ours - theirs)[:, :3].square().sum() / theirs[:, :3].square().sum()
    got = state_distance([ours, theirs], [theirs, theirs], mask)
    torch.testing.assert_close(got, want / 2)


def test_states_need_a_teacher_of_the_same_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher_states_weight: got 1\.0, want a teacher"):
        QuestionAnswering().make(_setup(tmp_path, teacher_states_weight=1.0))
    directory = _setup(tmp_path).model_dir
    with pytest.raises(ConfigError, match=r"teacher_states_weight: got -1\.0, want a number"):
        load_teacher(
            directory,
            "question-answering",
            directory,
            weight=0.5,
            temperature=1.0,
            states_weight=-1.0,
        )
