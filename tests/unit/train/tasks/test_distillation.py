from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from bert_rt.errors import ConfigError
from tests.support.training import make_checkpoint
from train.tasks.distillation import load_teacher, soft_cross_entropy


def test_least_where_both_agree() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(4, 9)
    student = teacher.clone().requires_grad_()
    loss = soft_cross_entropy(student, teacher, 2.0)
    loss.backward()
    entropy = -(teacher / 2).softmax(-1) * (teacher / 2).log_softmax(-1)
    assert float(loss.detach()) == pytest.approx(4 * float(entropy.sum(-1).mean()), rel=1e-5)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-6


def test_what_is_no_choice_has_no_part() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5), torch.randn(2, 5)
    want = soft_cross_entropy(student, teacher, 3.0)
    padding = torch.full((2, 2), -math.inf)
    longer = (torch.cat([logits, padding], 1) for logits in (student, teacher))
    assert torch.allclose(soft_cross_entropy(*longer, 3.0), want)


@pytest.mark.parametrize(
    ("weight", "temperature", "message"),
    [(1.5, 1.0, "teacher_weight: got 1.5"), (0.5, 0.0, "temperature: got 0.0")],
)
def test_bad_numbers_are_named(weight: float, temperature: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_teacher(Path(), "x", Path(), weight=weight, temperature=temperature)


def test_a_teacher_does_not_learn(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "qa", "question-answering")
    teacher = load_teacher(directory, "question-answering", directory, weight=0.5, temperature=2.0)
    ids = torch.ones(2, 6, dtype=torch.long)
    start, end = teacher.logits(ids, ids, torch.zeros_like(ids))
    assert start.shape == end.shape == (2, 6)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
