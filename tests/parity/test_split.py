"""Split layers from a checkpoint to INT8 on every engine."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from bert_rt.artifact.artifact import (
    Artifact,
    ManifestFields,
    build_artifact,
    load_artifact,
    write_artifact,
)
from bert_rt.artifact.manifest import ModelEntry
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.native import NativeEngine
from bert_rt.engines.packing import pack, pad, unpad
from bert_rt.engines.registry import missing, open_engine
from bert_rt.errors import ArtifactFormatError, InputError
from bert_rt.model.checkpoint import checkpoint_hash, save_checkpoint
from bert_rt.model.config import to_dict
from bert_rt.tasks.checkpoints import build_model, load_model
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.head_spec import HEAD
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Feature, Outputs, PackedBatch
from compile.graph.fuse import fuse
from compile.graph.head import GraphHead
from compile.graph.linear import find_linear_layers
from compile.graph.trace import trace
from compile.int8.calibrate import observe
from compile.int8.drives import SequenceDrive
from compile.int8.quantize import plan_layers, quantize
from tests.kernels.support import ISAS
from tests.parity.test_native import MAX_INT8_DIFFERENCE
from tests.support.data.text import make_tokenizer
from tests.tolerances import FLOAT32_ATOL
from tests.unit.compile import tiny

Logits = NDArray[np.float32]
SPLIT = replace(
    tiny.CONFIG,
    num_hidden_layers=3,
    num_split_layers=2,
    passage_position_offset=tiny.LIMITS.max_query_length + 2,
)
CONTEXTS = ("The cat sat on the mat in Paris, 42; who is unaffable? " * 3, "the mat is in paris")
QUESTIONS = ("who sat on the mat?", "where is the cat", "42?")


@dataclass(frozen=True)
class Compiled:
    """What is made of one checkpoint."""

    checkpoint: Path
    tokenizer: Tokenizer
    float_artifact: Artifact
    int8_artifact: Artifact


@functools.cache
def directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="bert-rt-test-")


def windows(tokenizer: Tokenizer) -> list[Feature]:
    """Return windows of every question over every passage."""
    pairs = [(question, context) for context in CONTEXTS for question in QUESTIONS]
    return [
        window
        for question, context in pairs
        for window in make_features(
            0,
            tokenizer.encode(question),
            tokenizer.encode(context),
            config=tiny.LIMITS,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            is_split=True,
        )
    ]


@functools.cache
def compiled(num_split_layers: int = 2) -> Compiled:
    place = Path(directory().name, str(num_split_layers))
    architecture = replace(SPLIT, num_split_layers=num_split_layers)
    torch.manual_seed(5)
    model = build_model("question-answering", architecture)
    with torch.no_grad():  # Fresh weights make attention nearly uniform, and logits all alike.
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5.0)
    save_checkpoint(
        place / "checkpoint",
        model,
        architecture,
        tokenizer_files={"tokenizer.json": make_tokenizer().to_json()},
    )
    loaded = load_model(place / "checkpoint")
    tokenizer = Tokenizer.from_directory(place / "checkpoint")
    graph = trace(loaded)
    fusions = fuse(graph, loaded.config, GraphHead(("qa_outputs",)))
    layers = [layer for layer in find_linear_layers(graph) if layer.is_encoder]
    drive = SequenceDrive(windows(tokenizer), tokenizer.pad_id)
    observers = observe(graph, layers, drive, max_rows=512, seed=0, progress=tiny.Silent())
    fields = ManifestFields(
        task="question-answering",
        architecture=architecture,
        precision="float32",
        limits=to_dict(tiny.LIMITS),
        models={"model": ModelEntry(file="model.onnx", outputs=HEAD.outputs)},
        fusions=fusions,
        provenance={"checkpoint_sha256": checkpoint_hash(place / "checkpoint")},
    )
    files = {"model.onnx": tiny.to_bytes(graph), "tokenizer.json": tokenizer.to_json()}
    float_artifact = write_artifact(place / "float", files=files, **fields)
    plans = plan_layers(layers, observers, tiny.QUANT, tiny.Silent())
    files["model.onnx"] = tiny.to_bytes(quantize(graph, plans))
    fields["precision"] = "int8"
    int8_artifact = write_artifact(place / "int8", files=files, **fields)
    return Compiled(place / "checkpoint", tokenizer, float_artifact, int8_artifact)


def make_batch() -> PackedBatch:
    return pack(windows(compiled().tokenizer), max_tokens=2**16)


def stacked(outputs: Outputs) -> Logits:
    return np.stack([outputs["start_logits"], outputs["end_logits"]])


def run(artifact: Artifact, engine: str, batch: PackedBatch) -> Logits:
    options = EngineOptions("cpu", 1, str(compiled().checkpoint), HEAD)
    assert missing(engine, artifact, options) is None
    return stacked(open_engine(engine, artifact, options).run(batch))


def wanted(batch: PackedBatch) -> Logits:
    feeds = [torch.from_numpy(array) for array in pad(batch, SPLIT.pad_token_id)]
    with torch.inference_mode():
        result = load_model(compiled().checkpoint).model(*feeds)
    return np.stack([unpad(array.numpy(), batch.cu_seqlens) for array in result])


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino", "reference"])
def test_float_is_what_torch_computes(engine: str) -> None:
    batch = make_batch()
    want = wanted(batch)
    assert want.std() > 1000 * FLOAT32_ATOL
    got = run(compiled().float_artifact, engine, batch)
    np.testing.assert_allclose(got, want, rtol=0, atol=FLOAT32_ATOL)


def difference(one: Logits, other: Logits) -> float:
    """Return the root of the mean squared difference, as a share of the logits' own spread."""
    return float(np.sqrt(np.square(one - other).mean()) / other.std())


@pytest.mark.parametrize("engine", ["openvino", "native"])
def test_engines_agree_in_int8(engine: str) -> None:
    batch = make_batch()
    want = run(compiled().int8_artifact, "onnxruntime", batch)
    assert difference(run(compiled().int8_artifact, engine, batch), want) < MAX_INT8_DIFFERENCE
    assert difference(want, wanted(batch)) < 2 * MAX_INT8_DIFFERENCE


def test_several_layers_that_see_both_texts() -> None:
    batch = make_batch()
    want = run(compiled(1).int8_artifact, "onnxruntime", batch)
    engine = native(1, max_context_cache_mb=1)
    first = stacked(engine.run(batch))
    assert difference(first, want) < MAX_INT8_DIFFERENCE
    for _ in range(6):  # from kept states and, later, projections
        np.testing.assert_array_equal(stacked(engine.run(batch)), first)


def test_the_manifest_says_the_split() -> None:
    path = compiled().int8_artifact.path
    assert path is not None
    assert load_artifact(path).manifest.architecture == SPLIT
    text = (path / "manifest.json").read_text()
    architecture = json.loads(text)["architecture"]
    assert (architecture["num_split_layers"], architecture["passage_position_offset"]) == (2, 18)


def test_the_graph_has_two_masks_of_standard_operators() -> None:
    graph = onnx.load_from_string(compiled().float_artifact.read("model.onnx")).graph
    assert all(node.domain == "" for node in graph.node)
    masks = [node.input[3] for node in graph.node if node.op_type == "Attention"]
    assert masks[0] == masks[1] != masks[2]


def native(num_split_layers: int = 2, **options: int | str) -> NativeEngine:
    model = compiled(num_split_layers).int8_artifact.read("model.onnx")
    return NativeEngine(model, **{"num_threads": 1, **options})  # type: ignore[arg-type]


def random_window(rng: np.random.Generator, passages: list[list[int]], which: int) -> Feature:
    """Return a random question over one of the passages."""
    question = [2, *rng.integers(5, SPLIT.vocab_size, rng.integers(1, 12)).tolist(), 3]
    ids = np.array([*question, *passages[which]], np.int32)
    types = np.zeros_like(ids)
    types[len(question) :] = 1
    length = len(passages[which]) - 1
    return Feature(ids, types, 0, len(question), 0, length, np.ones(length, bool))


def random_passages(rng: np.random.Generator, count: int) -> list[list[int]]:
    lengths = rng.integers(2, 29, count)
    return [[*rng.integers(5, SPLIT.vocab_size, n).tolist(), 3] for n in lengths]


def test_native_is_the_same_on_every_instruction_set_and_alone() -> None:
    batch = make_batch()
    want = stacked(native().run(batch))
    for options in (*({"isa": isa} for isa in ISAS), {"num_threads": 3}, {"group_tokens": 64}):
        np.testing.assert_array_equal(stacked(native(**options).run(batch)), want)
    engine = native(max_context_cache_mb=1)
    for (begin, end), window in zip(
        pairwise(batch.cu_seqlens.tolist()), windows(compiled().tokenizer), strict=True
    ):
        alone = stacked(engine.run(pack([window], max_tokens=2**16)))
        np.testing.assert_array_equal(alone, want[:, begin:end])
    assert engine.context_cache()["num_hits"] > 0


@pytest.mark.parametrize("num_split_layers", [1, 2])
def test_only_logits_that_are_read_are_computed(num_split_layers: int) -> None:
    every = make_batch()
    some = pack(windows(compiled().tokenizer), max_tokens=2**16, is_all_read=False)
    assert some.logit_ranges is not None
    engine = native(num_split_layers)
    want, got = stacked(engine.run(every)), stacked(engine.run(some))
    is_read = np.zeros(every.num_tokens, bool)
    for first, (begin, end) in zip(every.cu_seqlens, some.logit_ranges, strict=False):
        is_read[[first, *range(first + begin, first + end)]] = True
    np.testing.assert_array_equal(got, np.where(is_read, want, 0.0))


def test_batches_of_more_than_a_turn() -> None:
    rng = np.random.default_rng(3)
    passages = random_passages(rng, 150)
    items = [random_window(rng, passages, int(rng.integers(150))) for _ in range(500)]
    batch = pack(items, max_tokens=2**16)
    assert batch.num_tokens > 8192
    got = stacked(native(num_threads=2).run(batch))
    engine = native()
    for item, (begin, end) in zip(items, pairwise(batch.cu_seqlens.tolist()), strict=True):
        alone = stacked(engine.run(pack([item], max_tokens=2**16)))
        np.testing.assert_array_equal(got[:, begin:end], alone)


def test_prepared_passages_are_found_and_changed_ones_are_not() -> None:
    rng = np.random.default_rng(4)
    passages = random_passages(rng, 3)
    engine = native(max_context_cache_mb=1)
    engine.prepare([np.array(passage, np.int32) for passage in passages])
    facts = engine.context_cache()
    assert (facts["num_contexts"], facts["num_misses"], facts["num_hits"]) == (3, 3, 0)
    items = [random_window(rng, passages, which) for which in (0, 1, 2)]
    batch = pack(items, max_tokens=2**16)
    np.testing.assert_array_equal(stacked(engine.run(batch)), stacked(native().run(batch)))
    assert engine.context_cache()["num_hits"] == 3
    for changed in ([passages[0][0] ^ 1, *passages[0][1:]], passages[0][1:], [*passages[0], 3]):
        item = random_window(rng, [changed], 0)
        batch = pack([item], max_tokens=2**16)
        np.testing.assert_array_equal(stacked(engine.run(batch)), stacked(native().run(batch)))
    facts = engine.context_cache()
    assert (facts["num_hits"], facts["num_misses"], facts["num_contexts"]) == (3, 6, 6)


def test_without_a_cache_nothing_is_kept() -> None:
    engine = native()
    engine.prepare([np.array([5, 6, 3], np.int32)])
    engine.run(make_batch())
    assert engine.context_cache()["num_contexts"] == 0


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([0, 1, 0], r"token_type_ids\[2\]: got 0 behind a token of type 1"),
        ([1] * 47, "sequence 0 has 47 tokens of type 1, want at most 46"),
    ],
)
def test_texts_that_the_split_cannot_read_are_named(types: list[int], message: str) -> None:
    ids = np.full(len(types), 5, np.int32)
    batch = PackedBatch(ids, np.array(types, np.int32), np.array([0, len(ids)], np.int32), len(ids))
    with pytest.raises(InputError, match=message):
        native().run(batch)


def test_questions_and_passages_alone_are_sequences_too() -> None:
    ids = np.array([2, 5, 3, 7, 8, 3], np.int32)
    types = np.array([0, 0, 0, 1, 1, 1], np.int32)
    batch = PackedBatch(ids, types, np.array([0, 3, 6], np.int32), 3)
    got = stacked(native().run(batch))
    want = run(compiled().int8_artifact, "onnxruntime", batch)
    assert difference(got, want) < 2 * MAX_INT8_DIFFERENCE


def test_a_graph_of_another_split_is_refused() -> None:
    made = compiled()
    fields = {**made.int8_artifact.manifest.__dict__, "files": None, "extensions": None}
    del fields["files"], fields["extensions"], fields["version"]
    fields["architecture"] = replace(SPLIT, num_split_layers=1)
    files = {name: made.int8_artifact.read(name) for name in ("model.onnx", "tokenizer.json")}
    artifact = build_artifact(files=files, **fields)
    with pytest.raises(ArtifactFormatError, match="num_split_layers 2, want 1 as in the manifest"):
        open_engine("native", artifact, EngineOptions("cpu", 1))


def test_split_layers_need_their_mask() -> None:
    graph = onnx.load_from_string(compiled().int8_artifact.read("model.onnx"))
    attentions = [node for node in graph.graph.node if node.op_type == "Attention"]
    lower, upper = attentions[0].input[3], attentions[2].input[3]
    attentions[1].input[3] = "attention_mask"
    with pytest.raises(ArtifactFormatError, match="want one mask for the lowest layers"):
        NativeEngine(graph.SerializeToString(), num_threads=1)
    attentions[1].input[3] = lower
    attentions[0].input[3] = upper
    with pytest.raises(ArtifactFormatError, match="no layer is split"):
        NativeEngine(graph.SerializeToString(), num_threads=1)
