"""Tests of bert_rt.model.heads; equality with Transformers is in tests/parity."""

from __future__ import annotations

import collections
import copy
import math
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from bert_rt.errors import ConfigError
from bert_rt.model.config import BERT_SIZES, BertConfig
from bert_rt.model.encoder import BertModel, attention, initialize
from bert_rt.model.heads import BertForPreTraining
from bert_rt.tasks.checkpoints import build_model
from bert_rt.tasks.question_answering.model import BertForQuestionAnswering
from bert_rt.tasks.text_classification.model import BertForSequenceClassification
from tests.tolerances import FLOAT32_ATOL, ONE_OP_FLOAT32_ATOL

CONFIG = BertConfig(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=64,
)
ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")


def make_inputs(num_sequences: int, length: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Return random ids, mask and token types of shape (B, S)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randint(0, high, (num_sequences, length), generator=generator)
        for high in (CONFIG.vocab_size, 2, 2)
    )


def perturbed(model: ModuleT) -> ModuleT:
    """Move every parameter away from its start, so that no bias is 0 and no scale 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize(
    ("size", "num_parameters"),
    [
        ("tiny", 4_385_920),
        ("mini", 11_170_560),
        ("small", 28_763_648),
        ("medium", 41_373_184),
        ("base", 109_482_240),
        ("large", 335_141_888),
    ],
)
def test_named_sizes_have_the_published_parameter_counts(size: str, num_parameters: int) -> None:
    model = build_model("encoder", BERT_SIZES[size], device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_question_answering_has_no_pooler() -> None:
    model = BertForQuestionAnswering(CONFIG)
    assert not any("pooler" in name for name in model.state_dict())
    assert model.bert(*make_inputs(2, 5))[1] is None


def test_results_have_the_shapes_that_the_docstrings_say() -> None:
    inputs = make_inputs(3, 7)
    x_BSD, pooled_BD = BertModel(CONFIG)(*inputs)
    mlm_BSV, nsp_B2 = BertForPreTraining(CONFIG)(*inputs)
    start_BS, end_BS = BertForQuestionAnswering(CONFIG)(*inputs)
    logits_BC = BertForSequenceClassification(CONFIG, 5)(*inputs)
    assert (x_BSD.shape, pooled_BD.shape) == ((3, 7, 32), (3, 32))
    assert (mlm_BSV.shape, nsp_B2.shape) == ((3, 7, 97), (3, 2))
    assert (start_BS.shape, end_BS.shape, logits_BC.shape) == ((3, 7), (3, 7), (3, 5))


def test_decoder_is_the_word_embeddings_also_after_a_copy() -> None:
    for model in (original := BertForPreTraining(CONFIG), copy.deepcopy(original)):
        assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
        assert model.cls.predictions.decoder.bias is model.cls.predictions.bias


def test_every_parameter_is_trained() -> None:
    model = BertForPreTraining(CONFIG)
    mlm_BSV, nsp_B2 = model(*make_inputs(2, 9))
    (mlm_BSV.square().sum() + nsp_B2.square().sum()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_vocabulary_scores_can_be_had_for_few_positions() -> None:
    model = perturbed(BertForPreTraining(CONFIG))
    inputs = make_inputs(3, 8)
    is_wanted_BS = torch.rand(3, 8, generator=torch.Generator().manual_seed(2)) < 0.3
    x_BSD, _ = model.bert(*inputs)
    picked_MV = model.cls.predictions(x_BSD[is_wanted_BS])
    wanted_MV = model(*inputs)[0][is_wanted_BS]
    torch.testing.assert_close(picked_MV, wanted_MV, atol=ONE_OP_FLOAT32_ATOL, rtol=0)


def test_padding_changes_nothing() -> None:
    model = perturbed(BertForQuestionAnswering(CONFIG))
    input_ids, _, token_type_ids = make_inputs(1, 11)
    alone = model(input_ids, torch.ones_like(input_ids), token_type_ids)
    mask_BS = F.pad(torch.ones_like(input_ids), (0, 6))
    padded = model(F.pad(input_ids, (0, 6), value=3), mask_BS, F.pad(token_type_ids, (0, 6)))
    for got_BS, want_BS in zip(padded, alone, strict=True):
        torch.testing.assert_close(got_BS[:, :11], want_BS, atol=FLOAT32_ATOL, rtol=0)


def test_a_row_with_nothing_to_attend_to_stays_finite_in_half_precision_too() -> None:
    model = perturbed(BertForQuestionAnswering(CONFIG))
    input_ids, _, token_type_ids = make_inputs(2, 6)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        logits = model.to(dtype)(input_ids, torch.zeros_like(input_ids), token_type_ids)
        assert all(torch.isfinite(x_BS).all() for x_BS in logits), dtype


def test_dropout_acts_in_training_only() -> None:
    model = BertForSequenceClassification(CONFIG)
    inputs = make_inputs(2, 6)
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))


def test_traced_attention_is_the_fused_one() -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 4, 9, 8, generator=generator) for _ in range(3))
    mask = -10000.0 * torch.randint(0, 2, (2, 1, 1, 9), generator=generator)
    want = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, mask), want, atol=ONE_OP_FLOAT32_ATOL, rtol=0)


def test_initialize_follows_the_config() -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BERT_SIZES["tiny"])
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif name.endswith("LayerNorm.weight"):
            assert parameter.eq(1).all(), name
        else:
            # The deviation of n draws is off by a share of 1 / sqrt(2 n); five of those.
            margin = 5 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(0.02, rel=margin), name


def test_initialize_is_repeatable() -> None:
    models = [BertModel(CONFIG), BertModel(CONFIG)]
    for model in models:
        torch.manual_seed(7)
        initialize(model.named_parameters(), 0.5)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_build_model_knows_the_tasks() -> None:
    assert isinstance(build_model("encoder", CONFIG), BertModel)
    assert isinstance(build_model("pretraining", CONFIG), BertForPreTraining)
    assert isinstance(build_model("question-answering", CONFIG), BertForQuestionAnswering)
    classifier = build_model("text-classification", CONFIG, 4)
    assert isinstance(classifier, BertForSequenceClassification)
    assert classifier.classifier.out_features == 4
    with pytest.raises(ConfigError, match="'translation'"):
        build_model("translation", CONFIG)


# Nodes of the traced graph: those made once, and those of each layer. At opset 18 there is no
# Gelu; torch then writes it out.
ONCE = {"Add": 3, "Cast": 1, "Concat": 2, "Gather": 4, "LayerNormalization": 1, "MatMul": 1}
ONCE |= {"Mul": 1, "Shape": 2, "Slice": 1, "Sub": 1, "Unsqueeze": 1}
A_LAYER = {"Add": 9, "LayerNormalization": 2, "MatMul": 8, "Mul": 1, "Reshape": 4, "Softmax": 1}
A_LAYER |= {"Transpose": 4}
GELU = {18: {"Add": 1, "Div": 1, "Erf": 1, "Mul": 2}, 20: {"Gelu": 1}}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:# The axis name:UserWarning")
@pytest.mark.parametrize("opset", [18, 20])
def test_export_is_compact_and_computes_the_same(opset: int, tmp_path: Path) -> None:
    model = perturbed(BertForQuestionAnswering(CONFIG))
    axes = {
        0: torch.export.Dim("batch_size", min=1, max=4096),
        1: torch.export.Dim("sequence_length", min=1, max=CONFIG.max_position_embeddings),
    }
    program = torch.onnx.export(
        model,
        make_inputs(2, 16),
        dynamo=True,
        opset_version=opset,
        input_names=list(INPUT_NAMES),
        dynamic_shapes=dict.fromkeys(INPUT_NAMES, axes),
        verbose=False,
    )
    assert program is not None
    nodes = collections.Counter(node.op_type for node in program.model.graph)
    want = collections.Counter(ONCE)
    for _ in range(CONFIG.num_hidden_layers):
        want.update(A_LAYER)
        want.update(GELU[opset])
    assert nodes == want
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for num_sequences, length in ((1, 1), (1, 5), (2, 16), (3, 33), (7, 64)):
        inputs = make_inputs(num_sequences, length, seed=length)
        inputs[1][0] = 0  # one row with nothing to attend to
        feed = {name: x.numpy() for name, x in zip(INPUT_NAMES, inputs, strict=True)}
        for got, want_BS in zip(session.run(None, feed), model(*inputs), strict=True):
            np.testing.assert_allclose(got, want_BS.detach(), atol=FLOAT32_ATOL, rtol=0)
