"""Tiny artifacts with random weights, made without torch, for answers, classes and labels of words.

The graph is the float form that the compile stage writes: the standard's fused operators (opset
23) with merged QKV, so that it runs on every portable engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bert_rt.artifact.artifact import Artifact, ManifestFields, write_artifact
from bert_rt.artifact.manifest import ModelEntry
from bert_rt.model.config import BertConfig, to_dict
from bert_rt.tasks.limits import AnsweringConfig, SequenceLimits, SummaryConfig, WindowLimits
from tests.support.data.text import VOCAB, make_tokenizer

CONFIG = BertConfig(
    vocab_size=len(VOCAB),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=64,
)
LIMITS = AnsweringConfig(max_seq_length=48, doc_stride=12, max_query_length=16, max_answer_length=8)

LABELS = ("bad", "good", "neither")
CLASSIFIER_LIMITS = SequenceLimits(max_seq_length=48)
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SUMMARY_LIMITS = SummaryConfig(max_seq_length=40, doc_stride=12, max_sentence_length=24)
TAGGER_LIMITS = WindowLimits(max_seq_length=24, doc_stride=8)

# Questions over contexts of one to four windows, in the words and letters of VOCAB.
PAIRS: tuple[tuple[str, str], ...] = (
    ("who sat on the mat?", "The cat sat on the mat in Paris."),
    ("where is the cat?", "the cat is in paris, the mat is on the cat. " * 4),
    ("unaff?", "un aff unaff 42 % 7 x y z " * 8),
    ("who is who", "caf\u00e9 \u4e2d\u6587 \U0001f600 the end\r\n\tis [SEP] near e\u0301."),
    ("is it", "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3),
)


class _Graph:
    """Nodes and initializers, collected."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def constant(self, array: NDArray[Any]) -> str:
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, scale: float = 0.3) -> str:
        return self.constant(self._random.normal(0, scale, shape).astype(np.float32))

    def add(self, op: str, *inputs: str, outputs: Sequence[str] = (), **attributes: Any) -> str:
        names = list(outputs) or [f"{op}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0]

    def linear(self, x: str, num_in: int, num_out: int) -> str:
        product = self.add("MatMul", x, self.weight(num_in, num_out))
        return self.add("Add", product, self.weight(num_out))

    def norm(self, x: str, residual: str, size: int) -> str:
        gamma = self.constant(np.ones(size, np.float32))
        total = self.add("Add", x, residual)
        return self.add("LayerNormalization", total, gamma, self.weight(size), axis=-1)


def _embeddings(graph: _Graph, config: BertConfig) -> str:
    size = config.hidden_size
    word = graph.add("Gather", graph.weight(config.vocab_size, size, scale=1.0), "input_ids")
    kind = graph.add("Gather", graph.weight(2, size), "token_type_ids")
    length = graph.add("Shape", "input_ids", start=1, end=2)
    zero = graph.constant(np.array([0], np.int64))
    position = graph.add("Slice", graph.weight(config.max_position_embeddings, size), zero, length)
    return graph.norm(graph.add("Add", word, kind), position, size)


def _mask(graph: _Graph) -> str:
    one = graph.constant(np.array(1, np.float32))
    penalty = graph.constant(np.array(-10000, np.float32))
    mask = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    mask = graph.add("Mul", graph.add("Sub", one, mask), penalty)
    mask = graph.add("Unsqueeze", mask, graph.constant(np.array([1, 2], np.int64)))
    shape = graph.add("Shape", "input_ids")
    batch = graph.add("Slice", shape, *(graph.constant(np.array([i], np.int64)) for i in (0, 1)))
    length = graph.add("Slice", shape, *(graph.constant(np.array([i], np.int64)) for i in (1, 2)))
    single = graph.constant(np.array([1], np.int64))
    target = graph.add("Concat", batch, single, length, length, axis=0)
    return graph.add("Expand", mask, target)


def _layer(graph: _Graph, x: str, mask: str, config: BertConfig) -> str:
    size, heads = config.hidden_size, config.num_attention_heads
    qkv = graph.linear(x, size, 3 * size)
    parts = [f"{qkv}_{name}" for name in "qkv"]
    graph.add("Split", qkv, outputs=parts, axis=-1, num_outputs=3)
    context = graph.add("Attention", *parts, mask, q_num_heads=heads, kv_num_heads=heads)
    x = graph.norm(graph.linear(context, size, size), x, size)
    hidden = graph.add("Gelu", graph.linear(x, size, config.intermediate_size))
    return graph.norm(graph.linear(hidden, config.intermediate_size, size), x, size)


def _span_head(graph: _Graph, x: str, config: BertConfig) -> list[onnx.ValueInfoProto]:
    logits = graph.linear(x, config.hidden_size, 2)
    graph.add("Split", logits, outputs=["start_BS1", "end_BS1"], axis=-1, num_outputs=2)
    axis = graph.constant(np.array([2], np.int64))
    names = ("start_logits", "end_logits")
    for name in names:
        graph.add("Squeeze", name.replace("logits", "BS1"), axis, outputs=[name])
    shape = ["batch_size", "sequence_length"]
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]


def _class_head(
    graph: _Graph, x: str, config: BertConfig, num_labels: int
) -> list[onnx.ValueInfoProto]:
    size = config.hidden_size
    first = graph.add("Gather", x, graph.constant(np.array(0, np.int64)), axis=1)
    pooled = graph.add("Tanh", graph.linear(first, size, size))
    product = graph.add("MatMul", pooled, graph.weight(size, num_labels))
    graph.add("Add", product, graph.weight(num_labels), outputs=["logits"])
    shape = ["batch_size", num_labels]
    return [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]


def _token_head(
    graph: _Graph, x: str, config: BertConfig, num_labels: int
) -> list[onnx.ValueInfoProto]:
    product = graph.add("MatMul", x, graph.weight(config.hidden_size, num_labels))
    graph.add("Add", product, graph.weight(num_labels), outputs=["logits"])
    shape = ["batch_size", "sequence_length", num_labels]
    return [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]


def make_model(
    config: BertConfig = CONFIG, *, seed: int = 0, num_labels: int = 0, per_token: bool = False
) -> bytes:
    """Return the bytes of a model.onnx with random weights: a classifier's with num_labels."""
    graph = _Graph(seed)
    x = _embeddings(graph, config)
    mask = _mask(graph)
    for _ in range(config.num_hidden_layers):
        x = _layer(graph, x, mask, config)
    if per_token:
        outputs = _token_head(graph, x, config, num_labels)
    elif num_labels:
        outputs = _class_head(graph, x, config, num_labels)
    else:
        outputs = _span_head(graph, x, config)
    shape = ["batch_size", "sequence_length"]
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "tiny",
            [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs],
            outputs,
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=11,
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _plain(fields: dict[str, Any]) -> Any:
    """Return fields of a manifest with limits that may be a task's dataclass."""
    limits = fields["limits"]
    return fields | {"limits": to_dict(limits) if dataclasses.is_dataclass(limits) else limits}


def write_tiny_artifact(directory: Path, **fields: Any) -> Artifact:
    """Write the artifact; fields replace those of the manifest."""
    values = ManifestFields(
        task="question-answering", architecture=CONFIG, precision="float32", limits=to_dict(LIMITS)
    )
    files = {"model.onnx": make_model(), "tokenizer.json": make_tokenizer().to_json()}
    return write_artifact(directory, **{"files": files, **_plain({**values, **fields})})


def write_tiny_classifier(directory: Path, **fields: Any) -> Artifact:
    """Write the artifact that classifies into LABELS; fields replace those of the manifest."""
    values = ManifestFields(
        task="text-classification",
        architecture=CONFIG,
        precision="float32",
        limits=to_dict(CLASSIFIER_LIMITS),
        labels=LABELS,
    )
    files = {
        "model.onnx": make_model(num_labels=len(LABELS)),
        "tokenizer.json": make_tokenizer().to_json(),
    }
    return write_artifact(directory, files=files, **_plain({**values, **fields}))


def write_tiny_tagger(directory: Path, **fields: Any) -> Artifact:
    """Write the artifact that labels words with TAGS; fields replace those of the manifest."""
    values = ManifestFields(
        task="token-classification",
        architecture=CONFIG,
        precision="float32",
        limits=to_dict(TAGGER_LIMITS),
        labels=TAGS,
        models={"model": ModelEntry(file="model.onnx", outputs={"logits": "token"})},
    )
    files = {
        "model.onnx": make_model(num_labels=len(TAGS), per_token=True),
        "tokenizer.json": make_tokenizer().to_json(),
    }
    return write_artifact(directory, files=files, **_plain({**values, **fields}))


def write_tiny_summarizer(directory: Path, **fields: Any) -> Artifact:
    """Write the artifact that chooses sentences; fields replace those of the manifest."""
    values = ManifestFields(
        task="summarization",
        architecture=CONFIG,
        precision="float32",
        limits=to_dict(SUMMARY_LIMITS),
        models={"model": ModelEntry(file="model.onnx", outputs={"logits": "token"})},
    )
    files = {
        "model.onnx": make_model(num_labels=1, per_token=True),
        "tokenizer.json": make_tokenizer().to_json(),
    }
    return write_artifact(directory, files=files, **_plain({**values, **fields}))
