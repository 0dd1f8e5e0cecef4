"""Split layers: the lower layers' states of a passage do not depend on the question."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bert_rt.errors import CheckpointError, ConfigError
from bert_rt.model.checkpoint import load_checkpoint, read_config, save_checkpoint
from bert_rt.model.config import BertConfig
from bert_rt.model.encoder import BertModel, split_mask, split_positions
from bert_rt.tasks.checkpoints import build_model
from bert_rt.tasks.question_answering.head_spec import HEAD
from tests.support.data.text import VOCAB, make_tokenizer
from tests.tolerances import ONE_OP_FLOAT32_ATOL

ORDINARY = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=40,
)
SPLIT = dataclasses.replace(ORDINARY, num_split_layers=2, passage_position_offset=12)
PASSAGE = [7, 8, 9, 10, 11, 12, 13, 3]
QUESTIONS = ([2, 5, 3], [2, 5, 6, 7, 8, 9, 3], [2, 14, 15, 3])


def _batch(questions: tuple[list[int], ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return input_ids, attention_mask and token_type_ids of questions over PASSAGE."""
    length = max(map(len, questions)) + len(PASSAGE)
    ids, mask, types = (torch.zeros(len(questions), length, dtype=torch.long) for _ in range(3))
    for row, question in enumerate(questions):
        end = len(question) + len(PASSAGE)
        ids[row, :end] = torch.tensor(question + PASSAGE)
        mask[row, :end] = 1
        types[row, len(question) : end] = 1
    return ids, mask, types


def _states(model: BertModel, layer: int, questions: tuple[list[int], ...]) -> list[Tensor]:
    """Return the passage's states after a layer, for every question."""
    kept: list[Tensor] = []
    hook = model.encoder.layer[layer].register_forward_hook(lambda *args: kept.append(args[2]))
    with torch.no_grad():
        model(*_batch(questions))
    hook.remove()
    (x_BSD,) = kept
    return [
        x_BSD[row, len(question) : len(question) + len(PASSAGE)]
        for row, question in enumerate(questions)
    ]


def _model(config: BertConfig) -> BertModel:
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():  # Fresh weights make attention nearly uniform.
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6.0)
    return model


def test_passage_states_do_not_depend_on_the_question() -> None:
    model = _model(SPLIT)
    for layer in (0, 1):
        first, *others = _states(model, layer, QUESTIONS)
        for other in others:
            torch.testing.assert_close(other, first, rtol=0, atol=ONE_OP_FLOAT32_ATOL)
    # The layer above them does see the question, and so does each of an ordinary model.
    for config, layer in ((SPLIT, 2), (ORDINARY, 0)):
        first, other, _ = _states(_model(config), layer, QUESTIONS)
        assert float((first - other).abs().max()) > 0.01


def test_lower_layers_are_those_of_the_texts_alone() -> None:
    model, (question, _, _) = _model(SPLIT), QUESTIONS
    ids, mask, types = _batch((question,))
    with torch.no_grad():
        positions = split_positions(types, 12)
        x_BSD = model.embeddings(ids, types, positions)
        parts = [x_BSD[:, : len(question)], x_BSD[:, len(question) :]]
        for layer in model.encoder.layer[:2]:
            parts = [layer(part, torch.zeros(1, 1, 1, part.shape[1])) for part in parts]
        want = model.encoder.layer[2](torch.cat(parts, 1), torch.zeros(1, 1, 1, ids.shape[1]))
        got, _ = model(ids, mask, types)
    torch.testing.assert_close(got, want, rtol=0, atol=10 * ONE_OP_FLOAT32_ATOL)


def test_positions_of_passages_begin_at_the_offset() -> None:
    _, _, types = _batch(QUESTIONS[:2])
    got = split_positions(types, 12).tolist()
    assert got[0][:11] == [0, 1, 2, *range(12, 20)]
    assert got[1] == [*range(7), *range(12, 20)]


def test_mask_hides_the_other_text_and_padding() -> None:
    types = torch.tensor([[0, 0, 1, 1, 0]])
    padding = torch.tensor([0.0, 0.0, 0.0, 0.0, -1e4])[None, None, None]
    hidden = (split_mask(types, padding) < 0)[0, 0].int().tolist()
    assert hidden == [
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [1, 1, 0, 0, 1],
        [1, 1, 0, 0, 1],
        [0, 0, 1, 1, 1],
    ]


def _save(directory: Path, config: BertConfig, extra: dict[str, Any] | None = None) -> Path:
    torch.manual_seed(0)
    save_checkpoint(
        directory,
        build_model("question-answering", config),
        config,
        tokenizer_files={"tokenizer.json": make_tokenizer().to_json()},
        extra=extra,
    )
    return directory


def test_checkpoints_keep_the_split_and_plain_loaders_the_weights(tmp_path: Path) -> None:
    config, raw = read_config(_save(tmp_path / "split", SPLIT))
    assert config == SPLIT
    assert (raw["num_split_layers"], raw["passage_position_offset"]) == (2, 12)
    # Who does not know the fields has an ordinary model of the same weights, and says nothing.
    plain = load_checkpoint(
        tmp_path / "split", HEAD, changes={"num_split_layers": 0, "passage_position_offset": 0}
    )
    again, raw = read_config(_save(tmp_path / "plain", plain.config, plain.raw_config))
    assert again == ORDINARY and not {"num_split_layers", "passage_position_offset"} & set(raw)


def test_ordinary_checkpoints_do_not_name_the_fields(tmp_path: Path) -> None:
    raw = json.loads((_save(tmp_path / "plain", ORDINARY) / "config.json").read_text())
    assert not {"num_split_layers", "passage_position_offset"} & set(raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_split_layers": 3}, "num_split_layers: got 3, want an integer from 0 to 2"),
        ({"num_split_layers": -1}, "num_split_layers: got -1, want an integer from 0 to 2"),
        ({"passage_position_offset": 2}, "passage_position_offset: got 2, want .* from 3 to 39"),
        ({"passage_position_offset": 40}, "passage_position_offset: got 40, want .* from 3 to 39"),
        ({"num_split_layers": 0}, "passage_position_offset: got 12, want .* from 0 to 0"),
        ({"type_vocab_size": 1}, "num_split_layers: got 2, want 0 for bert with type_vocab_size 1"),
        ({"model_type": "distilbert", "type_vocab_size": 0}, "want 0 for distilbert"),
    ],
)
def test_a_split_that_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"BertConfig.*{message}"):
        dataclasses.replace(SPLIT, **changes)


def test_a_checkpoint_with_such_a_split_is_named(tmp_path: Path) -> None:
    file = _save(tmp_path / "split", SPLIT) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_split_layers": 3}))
    with pytest.raises(CheckpointError, match=r"config\.json: .*num_split_layers: got 3"):
        read_config(tmp_path / "split")
