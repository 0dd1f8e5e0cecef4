"""Split layers over questions and passages alone are those over whole sequences under a mask."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bert_rt.model.encoder import BertLayer
from bert_rt.tasks.checkpoints import build_model
from tests.support.training import CONFIG
from train.optim.attention import use_fast_attention
from train.optim.split_layers import SharedPassagesModel, use_shared_passages


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    """Five rows: two passages thrice and once, one that begins like another, and padding."""
    passages = [[7, 8, 9, 10, 3], [7, 8, 9, 3], [0, 7, 3]]
    rows = [([2, 5, 3], 0), ([2, 6, 7, 3], 1), ([2, 3], 0), ([2, 5, 5, 5, 3], 2), ([2, 5, 3], 0)]
    width = max(len(question) + len(passages[which]) for question, which in rows) + 1
    ids, mask, types = (torch.zeros(len(rows), width, dtype=torch.int64) for _ in range(3))
    for row, (question, which) in enumerate(rows):
        tokens = question + passages[which]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        types[row, len(question) : len(tokens)] = 1
    return ids, mask, types


@pytest.mark.parametrize("num_split_layers", [1, 2])
def test_states_and_gradients_are_those_under_a_mask(num_split_layers: int) -> None:
    config = replace(
        CONFIG,
        num_hidden_layers=3,
        num_split_layers=num_split_layers,
        passage_position_offset=12,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(0)
    plain = build_model("question-answering", config)
    shared = copy.deepcopy(plain)
    use_fast_attention(shared)
    use_shared_passages(shared)
    assert isinstance(shared.bert, SharedPassagesModel)
    assert list(shared.state_dict()) == list(plain.state_dict())
    batch = _batch()
    is_token = batch[1].bool()
    outputs = []
    for model in (plain.train(), shared.train()):
        start, end = (x[is_token] for x in model(*batch))
        (start.square().sum() + (end * start).sum()).backward()
        outputs.append((start, end))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-6)
    for (name, want), got in zip(plain.named_parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_rows_without_a_passage_are_those_under_a_mask() -> None:
    config = replace(CONFIG, num_split_layers=1, passage_position_offset=12)
    torch.manual_seed(0)
    plain = build_model("text-classification", config, num_labels=2).eval()
    shared = copy.deepcopy(plain)
    use_shared_passages(shared)
    ids, mask, types = _batch()
    alone = ids[:, :2], mask[:, :2], torch.zeros_like(types[:, :2])
    mixed = ids, mask, types * torch.tensor([1, 0, 1, 0, 1])[:, None]
    for batch in (alone, mixed):
        torch.testing.assert_close(shared(*batch), plain(*batch), rtol=1e-4, atol=1e-6)


def test_a_passage_goes_through_the_lower_layers_once() -> None:
    config = replace(CONFIG, num_split_layers=1, passage_position_offset=12)
    model = build_model("question-answering", config).eval()
    use_shared_passages(model)
    shapes = []
    for layer in model.modules():
        if isinstance(layer, BertLayer):
            layer.register_forward_hook(lambda _l, inputs, _o: shapes.append(inputs[0].shape[:2]))
    ids, mask, types = _batch()
    model(ids, mask, types)
    assert [tuple(shape) for shape in shapes] == [(5, 5), (3, 5), tuple(ids.shape)]


def test_a_model_without_split_layers_stays() -> None:
    model = build_model("question-answering", CONFIG)
    before = type(model.bert)
    use_shared_passages(model)
    assert type(model.bert) is before
