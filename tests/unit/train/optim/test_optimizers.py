from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from train.optim.optimizers import AdamW, Lamb, clip_gradients, parameter_groups

RATE, DECAY, BETAS, EPS = 0.01, 0.1, (0.9, 0.98), 1e-6


def groups_of(parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [
        {
            "params": parameters,
            "names": [str(i) for i in range(len(parameters))],
            "weight_decay": DECAY,
            "learning_rate_scale": 1.0,
        }
    ]


def follow(cls: type[AdamW], num_steps: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Take steps with given gradients; return the start, the gradients and the end, in float64."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3))
    gradients = [rng.normal(size=(5, 3)) * 10.0**turn for turn in range(-2, num_steps - 2)]
    weight = nn.Parameter(torch.tensor(start))
    optimizer = cls(groups_of([weight]), learning_rate=RATE, betas=BETAS, eps=EPS)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        optimizer.set_learning_rate(RATE)
        optimizer.step()
    return start, gradients, weight.detach().numpy()


@pytest.mark.parametrize("cls", [AdamW, Lamb])
def test_the_papers_equations(cls: type[AdamW]) -> None:
    w, gradients, got = follow(cls, 4)
    m = v = np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g**2
        m_hat, v_hat = m / (1 - BETAS[0] ** t), v / (1 - BETAS[1] ** t)
        update = m_hat / (np.sqrt(v_hat) + EPS) + DECAY * w
        ratio = np.linalg.norm(w) / np.linalg.norm(update) if cls is Lamb else 1.0
        w = w - RATE * ratio * update
    assert np.allclose(got, w, rtol=1e-12, atol=0)


def test_adamw_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(7, 5).double(), nn.Linear(7, 5).double()
    theirs.load_state_dict(ours.state_dict())
    first = AdamW(groups_of(list(ours.parameters())), learning_rate=RATE, betas=BETAS, eps=EPS)
    first.set_learning_rate(RATE)
    second = torch.optim.AdamW(
        theirs.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY
    )
    x = torch.randn(3, 7, dtype=torch.float64)
    for _ in range(5):
        for model, optimizer in ((ours, first), (theirs, second)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_weight_of_zero_still_moves_with_lamb() -> None:
    weight = nn.Parameter(torch.zeros(4))
    optimizer = Lamb(groups_of([weight]), learning_rate=RATE)
    optimizer.set_learning_rate(RATE)
    weight.grad = torch.ones(4)
    optimizer.step()
    assert torch.allclose(weight, torch.full((4,), -RATE), rtol=1e-4)


def test_groups_of_bert() -> None:
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8
    )
    model = build_model("question-answering", config)
    groups = parameter_groups(model, weight_decay=0.01, layer_decay=0.5)
    found = {name: group for group in groups for name in group["names"]}
    assert found.keys() == dict(model.named_parameters()).keys()
    scales = {name: group["learning_rate_scale"] for name, group in found.items()}
    assert scales["qa_outputs.weight"] == 1.0
    assert scales["bert.encoder.layer.2.output.dense.weight"] == 0.5
    assert scales["bert.encoder.layer.0.output.dense.bias"] == 0.125
    assert scales["bert.embeddings.word_embeddings.weight"] == 0.0625
    for name, group in found.items():
        is_free = name.endswith("bias") or "LayerNorm" in name
        assert group["weight_decay"] == (0.0 if is_free else 0.01)


@pytest.mark.parametrize(("limit", "want"), [(1.0, 1.0), (100.0, 5.0), (0.0, 5.0)])
def test_gradients_are_clipped(limit: float, want: float) -> None:
    model = nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert float(clip_gradients(model, limit)) == pytest.approx(5.0)
    assert float(model.weight.grad.norm()) == pytest.approx(want, rel=1e-5)
