from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bert_rt.errors import ConfigError
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel
from tests.support.data.corpora import tokenizer_files, write_text
from tests.support.data.text import VOCAB
from train.optim.initialization import initialize_local
from train.recipes import PRETRAINING
from train.tasks.pretraining import make_pretraining


def _config(hidden_size: int, num_heads: int) -> BertConfig:
    return BertConfig(
        vocab_size=500,
        hidden_size=hidden_size,
        num_hidden_layers=2,
        num_attention_heads=num_heads,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=512,
    )


def _first_layer_attention(model: BertModel, length: int) -> Tensor:
    """Return what each head of the first layer looks at, (N, S, S), averaged over 16 texts."""
    ids = torch.randint(5, 500, (16, length), generator=torch.Generator().manual_seed(1))
    x_BSD = model.embeddings(ids, torch.zeros_like(ids))
    layers: Any = model.encoder.layer
    heads = layers[0].attention["self"]
    q, k = (
        project(x_BSD).unflatten(-1, (heads.num_heads, heads.head_dim)).transpose(1, 2)
        for project in (heads.query, heads.key)
    )
    scores = q @ k.transpose(-2, -1) / math.sqrt(heads.head_dim)
    return torch.softmax(scores, dim=-1).mean(0).detach()


def _looked_at(attention_SS: Tensor, offset: int) -> float:
    """Return the mean share of attention at the offset, over positions that have it."""
    return float(torch.diagonal(attention_SS, offset).mean())


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(128, 2), (256, 4), (384, 12), (768, 12)])
def test_heads_of_the_first_layer_look_at_their_neighbours(
    hidden_size: int, num_heads: int
) -> None:
    torch.manual_seed(0)
    model = BertModel(_config(hidden_size, num_heads)).eval()
    initialize_local(model, 0.02)
    for length in (128, 512):
        attention_NSS = _first_layer_attention(model, length)
        for head, offset in enumerate((-1, 1, -2, 2, -3, 3, -4, 4)[:num_heads]):
            shares = {x: _looked_at(attention_NSS[head], x) for x in range(-60, 61)}
            share = shares.pop(offset)
            assert share > 1.3 * max(shares.values())
            assert share > 20 / length


def test_the_rest_is_as_random_as_it_was_and_of_the_scale_that_suits_the_width() -> None:
    torch.manual_seed(0)
    model = BertModel(_config(256, 4))
    second: Any = model.encoder.layer[1]
    query = second.attention["self"].query.weight.clone()
    value = second.attention["self"].value.weight.clone()
    words = model.embeddings.word_embeddings.weight.clone()
    initialize_local(model, 0.02)
    assert torch.equal(second.attention["self"].query.weight, query)
    assert torch.equal(model.embeddings.word_embeddings.weight, words)
    assert torch.allclose(second.attention["self"].value.weight, value * (0.5 / 16 / 0.02))
    assert float(second.output.dense.weight.detach().std()) == pytest.approx(0.5 / 16, rel=0.02)
    positions = model.embeddings.position_embeddings.weight
    assert float(positions.detach().square().mean().sqrt()) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(("hidden_size", "num_heads"), [(2, 2), (6, 2), (8, 4), (32, 8)])
def test_small_models_stay_finite(hidden_size: int, num_heads: int) -> None:
    model = BertModel(_config(hidden_size, num_heads))
    initialize_local(model, 0.02)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_projected_embeddings_keep_random_heads() -> None:
    config = replace(_config(64, 2), model_type="electra", embedding_size=32)
    model = BertModel(config)
    heads: Any = model.encoder.layer[0]
    before = heads.attention["self"].query.weight.clone()
    initialize_local(model, 0.02)
    assert torch.equal(heads.attention["self"].query.weight, before)


def _start(directory: Path, initialization: str, **values: Any) -> Tensor:
    """Return the position vectors that pretraining starts with."""
    write_text(directory / "a.txt", 40)
    config = replace(_config(32, 2), vocab_size=len(VOCAB), **values)
    model, _ = make_pretraining(
        [directory / "a.txt"],
        config,
        tokenizer_files(),
        directory / "cache",
        max_seq_length=32,
        initialization=initialization,
    )
    return model.bert.embeddings.position_embeddings.weight.detach()


def test_pretraining_starts_from_it(tmp_path: Path) -> None:
    local = _start(tmp_path, "local")
    assert torch.equal(local, _start(tmp_path, "local"))
    assert local[0, :4].tolist() == pytest.approx([0.0, 0.02 * 2**0.5] * 2)
    assert not torch.equal(local, _start(tmp_path, "random"))


def test_what_it_cannot_start_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="initialization: got 'zeros', want one of local, random"):
        _start(tmp_path, "zeros")
    with pytest.raises(ConfigError, match="initializer_range is 0; want it above 0"):
        _start(tmp_path, "local", initializer_range=0.0)
    assert not (tmp_path / "cache").exists()


def test_the_recipes_of_the_paper_start_as_the_paper_does() -> None:
    assert {name: make().initialization for name, make in PRETRAINING.items()} == {
        "tiny": "local",
        "mini": "local",
        "small": "local",
        "medium": "local",
        "base": "random",
        "large": "random",
    }
