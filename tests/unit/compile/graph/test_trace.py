"""Tests of compile.graph.trace."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from bert_rt.errors import UnsupportedOpError
from bert_rt.model.checkpoint import LoadedModel
from bert_rt.model.config import BertConfig
from bert_rt.tasks.checkpoints import build_model
from bert_rt.tasks.registry import find_task
from compile.graph.trace import TRACE_OPSET, trace
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny

_SHAPE = ("batch_size", "sequence_length")


def described(values: Any) -> list[tuple[str, Any, tuple[str, ...]]]:
    return [(value.name, value.dtype, tuple(str(dim) for dim in value.shape)) for value in values]


def test_inputs_and_outputs() -> None:
    graph = tiny.traced().graph
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert described(graph.inputs) == [(name, ir.DataType.INT64, _SHAPE) for name in names]
    names = ("start_logits", "end_logits")
    assert described(graph.outputs) == [(name, ir.DataType.FLOAT, _SHAPE) for name in names]


def test_standard_operators_only() -> None:
    model = tiny.traced()
    assert model.opset_imports == {"": TRACE_OPSET}
    assert {node.domain for node in model.graph} == {""}
    assert not model.functions


def test_each_input_does_its_own_work() -> None:
    # The exporter once took two inputs that were given as one tensor for one input.
    graph = tiny.traced().graph
    used_by = {value.name: {use.node.op_type for use in value.uses()} for value in graph.inputs}
    assert used_by["attention_mask"] == {"Cast"}
    tables = {
        str(use.node.inputs[0].name): value.name
        for value in graph.inputs
        for use in value.uses()
        if use.node.op_type == "Gather" and use.node.inputs[0] is not None
    }
    assert tables == {
        "bert.embeddings.word_embeddings.weight": "input_ids",
        "bert.embeddings.token_type_embeddings.weight": "token_type_ids",
    }


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids"])
def test_every_input_matters_as_in_torch(name: str) -> None:
    # Only this input varies: if it were read as another one, or not at all, nothing would fit.
    feeds = {key: np.ones((3, 11), np.int64) for key in tiny.make_feeds(1, 1)}
    feeds["input_ids"][:] = np.arange(60, 71)
    feeds[name] = tiny.make_feeds(3, 11)[name]
    want = tiny.torch_logits(tiny.loaded_model().model, feeds)
    got = tiny.ort_logits(tiny.to_bytes(tiny.traced()), feeds)
    np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_ATOL)
    assert np.abs(want[:, 0] - want[:, 1]).max() > 100 * FLOAT32_ATOL


def test_traces_a_short_model_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    # Fewer positions than the example usually has.
    config = dataclasses.replace(tiny.CONFIG, max_position_embeddings=8, num_hidden_layers=1)
    model: Any = build_model("question-answering", config).eval()
    graph = trace(LoadedModel(model, config, {}, (), ()))
    assert capfd.readouterr() == ("", "")
    for length in (1, 8):
        feeds = tiny.make_feeds(2, length)
        want = tiny.torch_logits(model, feeds)
        got = tiny.ort_logits(tiny.to_bytes(graph), feeds)
        np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_ATOL)


@pytest.mark.parametrize("task", ["encoder", "pretraining"])
def test_a_task_without_a_compiled_form(task: str) -> None:
    model: Any = build_model(task, tiny.CONFIG).eval()
    loaded = LoadedModel(model, tiny.CONFIG, {}, (), ())
    with pytest.raises(UnsupportedOpError, match=f"^task: got '{task}', want .*question-answering"):
        trace(loaded)


class Untraceable(torch.nn.Module):
    """What it computes depends on its input's values."""

    spec = find_task("question-answering").head_spec

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        if int(input_ids.sum()) > 7:
            return input_ids * 1.0, attention_mask * 1.0
        return token_type_ids * 1.0, attention_mask * 2.0


def test_a_model_that_cannot_be_traced() -> None:
    model: Any = Untraceable()
    loaded = LoadedModel(model, BertConfig(), {}, (), ())
    with pytest.raises(UnsupportedOpError, match="cannot be traced"):
        trace(loaded)
