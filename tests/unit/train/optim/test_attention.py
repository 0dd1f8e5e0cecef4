from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel
from tests.tolerances import BFLOAT16_ATTENTION, FLOAT32_ATTENTION
from train.optim.attention import FastSelfAttention, use_fast_attention

CONFIG = BertConfig(
    vocab_size=50,
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=64,
    max_position_embeddings=40,
)
SPLIT = replace(CONFIG, num_split_layers=1, passage_position_offset=10)


def _models(config: BertConfig = CONFIG) -> tuple[BertModel, BertModel]:
    torch.manual_seed(3)
    plain = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():  # Scores that differ: fresh weights make attention nearly uniform.
        for parameter in plain.encoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
    fast = copy.deepcopy(plain)
    use_fast_attention(fast)
    return plain, fast


def _run(model: BertModel, dtype: torch.dtype | None) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, 50, (4, 17), generator=generator)
    mask = (torch.arange(17) < torch.tensor([[17], [9], [1], [16]])).long()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        x_BSD, _ = model(ids, mask, (torch.arange(17) >= 5).long() * mask)
    # What is read of padding says nothing.
    weights = torch.randn(x_BSD.shape, generator=generator) * mask[..., None]
    model.zero_grad()
    (x_BSD.float() * weights).sum().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return x_BSD.detach().float() * mask[..., None], torch.cat(gradients)


@pytest.mark.parametrize("config", [CONFIG, SPLIT], ids=["ordinary", "split"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(None, FLOAT32_ATTENTION), (torch.bfloat16, BFLOAT16_ATTENTION)]
)
def test_results_and_gradients_are_those_of_the_fused_attention(
    dtype: torch.dtype | None, tolerance: float, config: BertConfig
) -> None:
    plain, fast = _models(config)
    want, want_gradient = _run(plain, None)
    got, gradient = _run(fast, dtype)
    assert (got - want).norm() / want.norm() < tolerance
    assert (gradient - want_gradient).norm() / want_gradient.norm() < tolerance


def test_parameters_keep_their_names_and_are_shared() -> None:
    torch.manual_seed(3)
    model = BertModel(CONFIG)
    before = dict(model.named_parameters())
    use_fast_attention(model)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert sum(isinstance(m, FastSelfAttention) for m in model.modules()) == 2
