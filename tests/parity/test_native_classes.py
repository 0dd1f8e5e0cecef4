"""Heads of classes in the native engine: a sequence's or a token's, whatever else is computed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.kernels import graphs
from tests.kernels.support import ISAS, _native

# Most that INT8 attention moves a logit by, over their spread; seen 0.02 to 0.07 with 30 models.
MAX_INT8_ATTENTION_ERROR = 0.15
SPEC = replace(graphs.TINY, num_labels=5, max_position_embeddings=100)


@pytest.fixture(scope="module")
def model() -> bytes:
    return graphs.build(SPEC).SerializeToString()


@pytest.mark.parametrize("isa", ISAS)
def test_batch_invariance_is_bitwise(model: bytes, isa: str) -> None:
    random = np.random.default_rng(3)
    num = 12 if isa == "scalar" else 60
    lengths = random.integers(1, 100, num)
    ids, types, cu = graphs.random_batch(SPEC, lengths.tolist(), seed=1)
    one = _native.Engine(model, num_threads=1, isa=isa)
    alone = np.concatenate(
        [
            one.run(ids[start:end], types[start:end], np.array([0, end - start], np.int32))
            for start, end in pairwise(cu)
        ]
    )
    assert alone.shape == (num, SPEC.num_labels)
    # Different sequences have different logits.
    assert len(np.unique(alone, axis=0)) == num
    for num_threads in (1, 2, 3):
        for group_tokens in (1, 150, 2000):
            engine = _native.Engine(
                model, num_threads=num_threads, isa=isa, group_tokens=group_tokens
            )
            order = random.permutation(num)
            rows = np.concatenate([np.arange(cu[b], cu[b + 1]) for b in order])
            mixed = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int32)
            assert np.array_equal(engine.run(ids[rows], types[rows], mixed), alone[order])


@pytest.mark.parametrize("num_labels", [1, 2, 16, 17, 40])
def test_logits_of_every_token_are_those_of_onnxruntime(num_labels: int) -> None:
    spec = replace(SPEC, num_labels=num_labels, pooler="", int8=False)
    model = graphs.build(spec)
    ids, types, cu = graphs.random_batch(spec, [7, 1, 60, 23], seed=2)
    engine = _native.Engine(model.SerializeToString(), num_threads=2)
    assert engine.info()["outputs"] == {"logits": "token"}
    got, want = engine.run(ids, types, cu), graphs.ort_logits(model, ids, types, cu)
    assert got.shape == want.shape == (len(ids), num_labels)
    # Attention is computed in INT8 here and in float there.
    assert np.abs(got - want).max() < MAX_INT8_ATTENTION_ERROR * want.std()


@pytest.mark.parametrize("isa", ISAS)
def test_tokens_have_the_same_bits_in_every_batch(isa: str) -> None:
    spec = replace(SPEC, num_labels=19, pooler="")
    model = graphs.build(spec).SerializeToString()
    random = np.random.default_rng(4)
    lengths = random.integers(1, 100, 10)
    ids, types, cu = graphs.random_batch(spec, lengths.tolist(), seed=1)
    one = _native.Engine(model, num_threads=1, isa=isa)
    alone = [
        one.run(ids[start:end], types[start:end], np.array([0, end - start], np.int32))
        for start, end in pairwise(cu)
    ]
    for num_threads, group_tokens in ((1, 150), (2, 1), (3, 2000)):
        engine = _native.Engine(model, num_threads=num_threads, isa=isa, group_tokens=group_tokens)
        assert np.array_equal(engine.run(ids, types, cu), np.concatenate(alone))
    # Of a range only: beside its rows those of the first tokens are computed, and the rest is 0.
    ranges = np.array([[n // 3, n // 2] for n in lengths], np.int32)
    got = one.run(ids, types, cu, ranges)
    for rows, want, (begin, end) in zip(np.split(got, cu[1:-1]), alone, ranges, strict=True):
        is_read = np.arange(len(rows)) == 0
        is_read[begin:end] = True
        assert np.array_equal(rows[is_read], want[is_read]) and not rows[~is_read].any()
