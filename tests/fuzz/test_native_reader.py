"""The native reader on damaged files: a clear error, or a model that runs; never a crash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.kernels import graphs
from tests.kernels.support import _native

SPEC = replace(
    graphs.TINY,
    vocab_size=20,
    hidden_size=32,
    intermediate_size=48,
    outlier_linears=frozenset({"1.ffn2"}),
)
# As RoBERTa and ELECTRA have them, and a classifier.
OTHER_SPEC = replace(
    SPEC, embedding_size=16, token_types="first", position_offset=2, num_labels=2, pooler="Gelu"
)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return graphs.build(SPEC)


@pytest.fixture(scope="module")
def other_model() -> onnx.ModelProto:
    return graphs.build(OTHER_SPEC)


def attempt(data: bytes) -> bool:
    """Whether the file was accepted; then it must also run."""
    try:
        engine = _native.Engine(data, num_threads=1)
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert message.startswith("model.onnx: ")
        return False
    if engine.info()["vocab_size"] >= 20:
        engine.run(*graphs.random_batch(replace(SPEC, type_vocab_size=1), [1]))
    return True


def test_every_truncation_of_the_structure_is_refused(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    cuts = np.random.default_rng(0).integers(0, len(data), 400)
    assert not any(attempt(data[:cut]) for cut in cuts)


@pytest.mark.parametrize("spec", [SPEC, OTHER_SPEC], ids=["bert", "other"])
def test_flipped_bits_and_bytes(spec: graphs.GraphSpec) -> None:
    data = graphs.build(spec).SerializeToString()
    rng = np.random.default_rng(1)
    accepted = 0
    for i in range(1500):
        damaged = bytearray(data)
        limit = len(data) if i % 3 == 0 else min(len(data), 8000)
        for at in rng.integers(0, limit, int(rng.integers(1, 4))):
            damaged[at] = int(rng.integers(0, 256)) if i % 2 else damaged[at] ^ (1 << (i % 8))
        accepted += attempt(bytes(damaged))
    assert accepted < 1500


def test_random_bytes() -> None:
    rng = np.random.default_rng(2)
    assert not any(attempt(rng.bytes(int(n))) for n in rng.integers(0, 300, 500))


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0.qkv.scale", np.float32(0), "scale must be positive"),
        ("0.qkv.scale", np.float32(np.nan), "not finite"),
        ("0.ffn1.weight_zero", np.ones(48, np.int8), "must be symmetric"),
        ("0.ffn1.weight_zero", np.zeros(47, np.int8), "want type 3 shape 48"),
        ("0.ffn1.bias", np.zeros(47, np.float32), "want type 1 shape 48"),
        ("0.ffn1.weight_q", np.zeros((32, 47), np.int8), "shape"),
        ("0.attention.bias", np.full(32, np.inf, np.float32), "not finite"),
        ("1.ffn2.outlier_channels", np.array([0, 1, 48]), "out of range"),
        ("1.ffn2.outlier_channels", np.array([0, -1, 2]), "out of range"),
        ("position", np.zeros((64, 16), np.float32), "differ in width"),
    ],
)
def test_wrong_constants_are_named(
    model: onnx.ModelProto, name: str, value: np.ndarray, message: str
) -> None:
    copy = changed(model)
    initializer(copy, name).CopyFrom(numpy_helper.from_array(np.asarray(value), name))
    with pytest.raises(ValueError, match=message):
        _native.Engine(copy.SerializeToString(), num_threads=1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("first_position", np.array([66]), "positions must start in the table"),
        ("first_position", np.array([-1]), "positions must start in the table"),
        ("type", np.zeros(17, np.float32), "differ in width"),
        ("type", np.full(16, np.nan, np.float32), "not finite"),
        (
            "project.weight",
            np.zeros((32, 32), np.float32),
            "projection of the embeddings has shape",
        ),
        ("project.bias", np.zeros(16, np.float32), "want type 1 shape 32"),
    ],
)
def test_wrong_embeddings_are_named(
    other_model: onnx.ModelProto, name: str, value: np.ndarray, message: str
) -> None:
    copy = changed(other_model)
    initializer(copy, name).CopyFrom(numpy_helper.from_array(value, name))
    with pytest.raises(ValueError, match=message):
        _native.Engine(copy.SerializeToString(), num_threads=1)


def test_narrow_embeddings_without_a_projection_are_refused(other_model: onnx.ModelProto) -> None:
    copy = changed(other_model)
    product = next(n for n in copy.graph.node if "project.weight" in n.input)
    added = next(n for n in copy.graph.node if product.output[0] in n.input)
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if name == added.output[0]:
                node.input[index] = product.input[0]
    with pytest.raises(ValueError, match="the embeddings are 16 wide, the layers 32, and nothing"):
        _native.Engine(copy.SerializeToString(), num_threads=1)


@pytest.mark.parametrize(
    ("op", "attribute", "value", "message"),
    [
        ("Gelu", "approximate", "tanh", "Gelu.*approximate"),
        ("Attention", "is_causal", 1, "Attention.*causal"),
        ("Attention", "kv_num_heads", 1, "Attention.*kv_num_heads"),
        ("LayerNormalization", "axis", 1, "LayerNormalization.*axis"),
    ],
)
def test_other_graphs_are_refused_naming_the_node(
    model: onnx.ModelProto, op: str, attribute: str, value: object, message: str
) -> None:
    copy = changed(model)
    node = next(n for n in copy.graph.node if n.op_type == op)
    kept = [a for a in node.attribute if a.name != attribute]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(attribute, value)])
    with pytest.raises(ValueError, match=message):
        _native.Engine(copy.SerializeToString(), num_threads=1)


def test_a_cycle_is_refused(model: onnx.ModelProto) -> None:
    copy = changed(model)
    norms = [n for n in copy.graph.node if n.op_type == "LayerNormalization"]
    first = norms[0]
    adds = [n for n in copy.graph.node if n.output[0] == first.input[0]]
    adds[0].input[0] = adds[0].output[0]
    with pytest.raises(ValueError, match=r"model\.onnx"):
        _native.Engine(copy.SerializeToString(), num_threads=1)


def test_external_data_is_refused(model: onnx.ModelProto) -> None:
    copy = changed(model)
    weight = initializer(copy, "0.qkv.weight_q")
    weight.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ValueError, match="external data"):
        _native.Engine(copy.SerializeToString(), num_threads=1)
