"""A classification head in the native engine: each sequence's logits, whatever else is computed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.kernels import graphs
from tests.kernels.support import ISAS, _native

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
