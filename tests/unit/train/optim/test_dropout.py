from __future__ import annotations

import pytest
import torch
from torch import nn

from bert_rt.tasks.checkpoints import build_model
from tests.support.training import CONFIG
from train.optim.dropout import ByteDropout, RandomBytes, use_fast_dropout


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_share_and_mean(p: float) -> None:
    source = RandomBytes()
    source.reseed(1, 2)
    x = torch.ones(1000, 1000, requires_grad=True)
    y = ByteDropout(p, source)(x)
    # The share that is dropped is p to 1/512, and a million draws stray by 0.0005 (one sigma).
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=1 / 512 + 0.002)
    assert float(y.detach().mean()) == pytest.approx(1.0, abs=0.005)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_the_seed_decides() -> None:
    source = RandomBytes()
    drop = ByteDropout(0.3, source)
    x = torch.ones(7, 13)

    def draw(*seed: int) -> torch.Tensor:
        source.reseed(*seed)
        return torch.cat([drop(x), drop(x)])

    assert torch.equal(draw(1, 5), draw(1, 5))
    assert not torch.equal(draw(1, 5), draw(1, 6))
    first, second = draw(1, 5).chunk(2)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_in_eval_mode() -> None:
    drop = ByteDropout(0.5, RandomBytes()).eval()
    x = torch.randn(5)
    assert drop(x) is x


def test_a_models_dropout_is_replaced() -> None:
    model = build_model("text-classification", CONFIG)
    source = use_fast_dropout(model)
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    inputs = torch.ones(2, 9, dtype=torch.long)

    def run() -> torch.Tensor:
        source.reseed(0, 0)
        result: torch.Tensor = model.train()(inputs, inputs, torch.zeros_like(inputs))
        return result

    assert torch.equal(run(), run())
