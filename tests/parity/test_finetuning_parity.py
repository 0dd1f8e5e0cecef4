"""Our loss and its gradients are those of Transformers: same weights, same batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from bert_rt.tasks.checkpoints import load_model
from tests.support.training import CONFIG, make_checkpoint
from train.tasks.question_answering.objective import span_loss

# Losses of a few nats and gradients below 1, in float32: see FLOAT32_ATOL. The bound.
ATOL = 1e-4


@pytest.mark.parametrize("seed", [0, 1])
def test_question_answering(tmp_path: Path, seed: int) -> None:
    checkpoint = make_checkpoint(tmp_path / "qa", "question-answering", seed=seed)
    ours = load_model(checkpoint).model.train()
    theirs = transformers.BertForQuestionAnswering.from_pretrained(
        checkpoint, attn_implementation="eager"
    ).train()
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    for module in ours.modules():
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    generator = torch.Generator().manual_seed(seed)
    # Without the padding token, whose embedding Transformers keeps from learning.
    ids = torch.randint(1, CONFIG.vocab_size, (5, 30), generator=generator)
    types = torch.randint(0, 2, (5, 30), generator=generator)
    spans = torch.randint(0, 30, (5, 1, 2), generator=generator)
    got = span_loss(*ours(ids, torch.ones_like(ids), types), spans)
    want = theirs(
        input_ids=ids,
        token_type_ids=types,
        start_positions=spans[:, 0, 0],
        end_positions=spans[:, 0, 1],
    ).loss
    assert torch.allclose(got, want, atol=ATOL)
    got.backward()
    want.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    compared = 0
    for name, parameter in ours.named_parameters():
        other = gradients[name]
        assert parameter.grad is not None
        assert other is not None
        assert torch.allclose(parameter.grad, other, atol=ATOL), name
        compared += int(parameter.grad.abs().max() > 10 * ATOL)
    assert compared > 20
