"""The native engine against ONNX Runtime and the reference, and against itself.

Two INT8 engines on the same graph differ by rounding at ties and, natively, by attention in INT8:
errors of the size of one quantization step, which a random tiny model carries to its logits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bert_rt.artifact.artifact import default_artifact_path, load_artifact
from bert_rt.engines.native import NativeEngine
from bert_rt.engines.reference import ReferenceEngine
from bert_rt.scheduling.scheduler import Scheduler
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.question_answering.answering import QuestionAnswering
from bert_rt.tasks.question_answering.squad import read_squad
from bert_rt.tasks.session import Session
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import PER_TOKEN, Answer, PackedBatch
from tests.kernels import graphs
from tests.kernels.graphs import GraphSpec
from tests.kernels.support import ISAS, _native

# Root of the mean squared difference, as a share of the logits' own spread. Measured: 0.016 to
# 0.025 between native and ONNX Runtime, 0.03 to 0.09 between ONNX Runtime's INT8 and float.
MAX_INT8_DIFFERENCE = 0.05

SPECS = {
    "tiny": graphs.TINY,
    "head16": replace(graphs.TINY, num_attention_heads=4),
    "head24_ffn200": replace(
        graphs.TINY, hidden_size=96, num_attention_heads=4, intermediate_size=200
    ),
    "head64": replace(graphs.TINY, hidden_size=128, num_attention_heads=2, intermediate_size=512),
    "classes": replace(graphs.TINY, num_labels=3),
    "classes_relu": replace(graphs.TINY, num_labels=3, pooler="Relu"),
    "classes_gelu": replace(graphs.TINY, num_labels=3, pooler="Gelu"),
    "no_types": replace(graphs.TINY, token_types="none"),
    "roberta": replace(graphs.TINY, token_types="first", position_offset=2),
    "narrow_embeddings": replace(graphs.TINY, embedding_size=48),
    "wide_embeddings_float": replace(
        graphs.TINY, embedding_size=80, float_linears=frozenset({"0.qkv"}), int8_embeddings=False
    ),
    "float_words": replace(graphs.TINY, int8_embeddings=False),
    "smooth": replace(
        graphs.TINY, smooth_linears=frozenset({"0.qkv", "0.attention", "1.ffn1", "1.ffn2"})
    ),
    "float_down": replace(graphs.TINY, float_linears=frozenset({"0.ffn2", "1.qkv", "0.attention"})),
    "float_up": replace(graphs.TINY, float_linears=frozenset({"0.ffn1", "1.ffn1", "1.ffn2"})),
    "outliers": replace(graphs.TINY, outlier_linears=frozenset({"0.ffn2", "1.ffn2"})),
    "outliers_float_up": replace(
        graphs.TINY, outlier_linears=frozenset({"1.ffn2"}), float_linears=frozenset({"1.ffn1"})
    ),
}
LENGTHS = (5, 1, 17, 64, 33)


def run(model: bytes, batch: tuple[NDArray[np.int32], ...], isa: str = "") -> NDArray[np.float32]:
    result = _native.Engine(model, num_threads=2, isa=isa).run(*batch)
    return np.stack(result) if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", SPECS)
def test_close_to_onnxruntime_and_equal_on_every_isa(name: str) -> None:
    spec: GraphSpec = SPECS[name]
    model = graphs.build(spec)
    batch = graphs.random_batch(spec, LENGTHS, seed=3)
    want = graphs.ort_logits(model, *batch)
    want = np.stack(want) if isinstance(want, tuple) else want
    results = [run(model.SerializeToString(), batch, isa) for isa in ISAS]
    for isa, result in zip(ISAS, results, strict=True):
        assert np.array_equal(result, results[0]), f"{isa} differs from {ISAS[0]}"
    error = np.sqrt(((results[0] - want) ** 2).mean()) / want.std()
    assert error < MAX_INT8_DIFFERENCE


def make_ranges(
    lengths: Sequence[int], random: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Draw a range of tokens of every sequence; also which tokens are read, shape (T,)."""
    ranges = [np.sort(random.integers(0, length + 1, 2)) for length in lengths]
    places = [np.arange(length) for length in lengths]
    reads = [
        (place == 0) | ((place >= begin) & (place < end))
        for place, (begin, end) in zip(places, ranges, strict=True)
    ]
    return np.array(ranges, np.int32), np.concatenate(reads)


@pytest.mark.parametrize("name", [name for name in SPECS if "classes" not in name])
@pytest.mark.parametrize("isa", ISAS)
def test_what_is_read_has_the_same_bits_and_the_rest_is_zero(name: str, isa: str) -> None:
    spec: GraphSpec = SPECS[name]
    model = graphs.build(spec).SerializeToString()
    random = np.random.default_rng(5)
    for lengths in (LENGTHS, (40,), (1,), (64, 1)):
        batch = graphs.random_batch(spec, lengths, seed=4)
        every = run(model, batch, isa)
        for num_threads, group_tokens in ((1, 0), (2, 0), (3, 1), (8, 2000)):
            engine = _native.Engine(
                model, num_threads=num_threads, isa=isa, group_tokens=group_tokens
            )
            ranges, is_read = make_ranges(lengths, random)
            some = np.stack(engine.run(*batch, ranges))
            assert np.array_equal(some[:, is_read], every[:, is_read])
            assert not some[:, ~is_read].any()


def test_empty_and_whole_ranges() -> None:
    model = graphs.build(graphs.TINY).SerializeToString()
    batch = graphs.random_batch(graphs.TINY, LENGTHS, seed=4)
    starts = batch[2][:-1]
    every = run(model, batch)
    ends = np.array(LENGTHS, np.int32)
    engine = _native.Engine(model, num_threads=2)
    whole = np.stack([np.zeros_like(ends), ends], 1)
    assert np.array_equal(np.stack(engine.run(*batch, whole)), every)
    first = np.stack(engine.run(*batch, np.stack([ends, ends], 1)))
    assert np.array_equal(first[:, starts], every[:, starts])
    assert np.count_nonzero(first) == 2 * len(LENGTHS)


@pytest.mark.parametrize("name", ["tiny", "outliers"])
def test_close_to_the_reference(name: str) -> None:
    spec: GraphSpec = SPECS[name]
    model = graphs.build(spec).SerializeToString()
    ids, types, cu = graphs.random_batch(spec, (9, 20), seed=5)
    outputs = {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}
    logits = ReferenceEngine(model, "int8", outputs).run(PackedBatch(ids, types, cu, 20))
    want = np.stack([logits[name] for name in outputs])
    error = np.sqrt(((run(model, (ids, types, cu)) - want) ** 2).mean()) / want.std()
    assert error < MAX_INT8_DIFFERENCE


@pytest.fixture(scope="module")
def small() -> tuple[GraphSpec, bytes]:
    spec = replace(
        graphs.TINY,
        hidden_size=128,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=200,
        outlier_linears=frozenset({"0.ffn2"}),
    )
    return spec, graphs.build(spec).SerializeToString()


@pytest.mark.parametrize("isa", ISAS)
def test_batch_invariance_is_bitwise(small: tuple[GraphSpec, bytes], isa: str) -> None:
    spec, model = small
    rng = np.random.default_rng(7)
    num = 24 if isa == "scalar" else 200
    rounds = 2 if isa == "scalar" else 20
    lengths = rng.integers(1, 60 if isa == "scalar" else 200, num)
    ids, types, cu = graphs.random_batch(spec, lengths.tolist(), seed=1)
    alone = _native.Engine(model, num_threads=1, isa=isa)
    hashes = []
    for b in range(num):
        part = slice(cu[b], cu[b + 1])
        one = np.array([0, lengths[b]], np.int32)
        hashes.append(_digest(*alone.run(ids[part], types[part], one)))
    engines = [
        _native.Engine(model, num_threads=threads, isa=isa, group_tokens=tokens)
        for threads in (1, 2)
        for tokens in (1, 300, 2000)
    ]
    for mix in range(rounds):
        order = rng.permutation(num)[: int(rng.integers(1, num + 1))]
        rows = np.concatenate([np.arange(cu[b], cu[b + 1]) for b in order])
        mixed = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int32)
        start, end = engines[mix % len(engines)].run(ids[rows], types[rows], mixed)
        for i, b in enumerate(order):
            part = slice(mixed[i], mixed[i + 1])
            assert _digest(start[part], end[part]) == hashes[b]


def test_200_sequences_have_the_same_bits_on_every_isa(small: tuple[GraphSpec, bytes]) -> None:
    spec, model = small
    lengths = np.random.default_rng(11).integers(1, 80, 200).tolist()
    batch = graphs.random_batch(spec, lengths, seed=4)
    results = []
    for isa in ISAS:
        engine = _native.Engine(model, num_threads=2, isa=isa)
        assert engine.info()["isa"] == isa
        results.append(np.stack(engine.run(*batch)))
    for isa, result in zip(ISAS, results, strict=True):
        assert np.array_equal(result, results[0]), f"{isa} differs from {ISAS[0]}"


def _digest(start: NDArray[np.float32], end: NDArray[np.float32]) -> str:
    return hashlib.sha256(start.tobytes() + end.tobytes()).hexdigest()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("lengths", [(200,), (150, 3), (1,), (90, 80, 70, 1, 1, 1)])
def test_any_thread_count_gives_the_same(
    small: tuple[GraphSpec, bytes], threads: int, lengths: tuple[int, ...]
) -> None:
    spec, model = small
    batch = graphs.random_batch(spec, lengths, seed=2)
    want = np.stack(_native.Engine(model, num_threads=1).run(*batch))
    got = np.stack(_native.Engine(model, num_threads=threads).run(*batch))
    assert np.array_equal(got, want)


def test_the_embedded_model_agrees_with_onnxruntime_on_real_text() -> None:
    import onnx

    artifact = load_artifact(default_artifact_path())
    tokenizer = Tokenizer.from_bytes(artifact.read("tokenizer.json"))
    items = artifact.manifest.self_test
    texts = [f"{item['question']} {item['context']}" for item in items]
    ids = [
        np.concatenate(([tokenizer.cls_id], encoding.input_ids, [tokenizer.sep_id]))
        for encoding in tokenizer.encode_batch(texts)
    ]
    cu_seqlens = np.cumsum([0, *map(len, ids)], dtype=np.int32)
    input_ids = np.concatenate(ids).astype(np.int32)
    batch = (input_ids, np.zeros_like(input_ids), cu_seqlens)
    model = artifact.read("model.onnx")
    want = np.stack(graphs.ort_logits(onnx.load_from_string(model), *batch))
    results = [run(model, batch, isa) for isa in ISAS if isa != "scalar"]
    assert all(np.array_equal(r, results[0]) for r in results)
    assert np.sqrt(((results[0] - want) ** 2).mean()) / want.std() < MAX_INT8_DIFFERENCE


def test_200_real_questions_have_the_same_answers_on_every_vector_isa(shared_dir: Path) -> None:
    artifact = load_artifact(default_artifact_path())
    tokenizer = Tokenizer.from_bytes(artifact.read("tokenizer.json"))
    examples = read_squad(shared_dir / "data/squad/dev-v1.1.json.gz")[::52][:200]
    pairs = [(example.question, example.context) for example in examples]
    task = QuestionAnswering()
    options = CallOptions(limits=task.read_limits(artifact.manifest), top_k=3)
    answers: dict[str, list[Answer]] = {}
    for isa in ISAS:
        if isa == "scalar":  # Minutes; small models stand for it above.
            continue
        engine = NativeEngine(artifact.read("model.onnx"), num_threads=2, isa=isa)
        assert engine.info.isa == isa
        scheduler = Scheduler(engine, max_batch_tokens=4096, max_queue_tokens=2**31)
        answers[isa] = list(Session(tokenizer, scheduler).stream(task, pairs, options))
        scheduler.close()
    first, *others = answers.values()
    assert len(first) == 200
    # Scores and logits included, so the same bits.
    assert all(other == first for other in others)
