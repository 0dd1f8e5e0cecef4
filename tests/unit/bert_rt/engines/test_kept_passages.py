"""Many threads over one cache of passages: answers stay the same, and memory within its bounds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bert_rt.engines.packing import pack
from tests.parity.test_split import native, random_passages, random_window, stacked
from tests.support.memory import resident_mib

_NUM_THREADS = 8
_NUM_TURNS = 1250 if os.environ.get("BERT_RT_LONG_TESTS") == "1" else 125
_NUM_PASSAGES = 700  # of which the cache holds a third
_CACHE_MB = 1


def test_projections_have_the_room_that_states_leave() -> None:
    rng = np.random.default_rng(6)
    ids = [np.array(passage, np.int32) for passage in random_passages(rng, 2000)]
    engine = native(max_context_cache_mb=_CACHE_MB)
    sizes = np.cumsum([engine.context_bytes(len(passage)) for passage in ids])
    engine.prepare(ids[:10])
    assert engine.context_cache()["num_bytes"] > 2 * sizes[9]
    num_fitting = int(np.searchsorted(sizes, _CACHE_MB * 2**20, "right"))
    engine.prepare(ids[:num_fitting])  # no states go for projections
    facts = engine.context_cache()
    assert facts["num_contexts"] == num_fitting < len(ids)
    assert sizes[num_fitting - 1] <= facts["num_bytes"] <= facts["max_bytes"]
    engine.prepare([ids[-1]])
    assert 0 <= num_fitting - engine.context_cache()["num_contexts"] < 20
    assert engine.context_cache()["num_bytes"] <= facts["max_bytes"]


def test_projections_of_passages_that_are_asked_again_and_again() -> None:
    rng = np.random.default_rng(7)
    passages = random_passages(rng, 4)
    batch = pack([random_window(rng, passages, which) for which in range(4)], max_tokens=2**16)
    want = stacked(native().run(batch))
    engine = native(max_context_cache_mb=_CACHE_MB)
    num_bytes = []
    for _ in range(8):
        np.testing.assert_array_equal(stacked(engine.run(batch)), want)
        num_bytes.append(engine.context_cache()["num_bytes"])
    assert num_bytes[0] == num_bytes[3] == sum(engine.context_bytes(len(p)) for p in passages)
    assert num_bytes[0] < num_bytes[4] == num_bytes[7]


@pytest.mark.timeout(3600)
def test_mixes_of_kept_evicted_and_new_passages_from_eight_threads() -> None:
    """1,000 mixes; 10,000 with BERT_RT_LONG_TESTS=1."""
    rng = np.random.default_rng(5)
    passages = random_passages(rng, _NUM_PASSAGES)
    items = [random_window(rng, passages, index % _NUM_PASSAGES) for index in range(1400)]
    ids = [np.array(passage, np.int32) for passage in passages]
    plain = native()
    want = [stacked(plain.run(pack([item], max_tokens=2**16))) for item in items]
    states = [plain.prepared_states([passage]) for passage in ids]
    before_mib = resident_mib()
    engine = native(num_threads=2, max_context_cache_mb=_CACHE_MB)
    failures: list[str] = []
    grown_mib: list[float] = []

    def work(seed: int) -> None:
        mine = np.random.default_rng(seed)
        for turn in range(_NUM_TURNS):
            chosen = mine.integers(0, len(items), int(mine.integers(1, 5))).tolist()
            some = [index % _NUM_PASSAGES for index in chosen]
            if turn % 25 == 0:
                engine.prepare([ids[i] for i in some])
            elif turn % 25 == 5:
                engine.keep([ids[i] for i in some], np.concatenate([states[i] for i in some]))
            elif turn % 25 == 10:
                got = engine.prepared_states([ids[i] for i in some])
                if not np.array_equal(got, np.concatenate([states[i] for i in some])):
                    failures.append(f"seed {seed}, turn {turn}: states")
            elif seed == 0 and turn % 100 == 15:
                engine.forget()
            got = stacked(engine.run(pack([items[i] for i in chosen], max_tokens=2**16)))
            if not np.array_equal(got, np.concatenate([want[i] for i in chosen], axis=1)):
                failures.append(f"seed {seed}, turn {turn}")
            facts = engine.context_cache()
            if facts["num_bytes"] > facts["max_bytes"]:
                failures.append(f"seed {seed}, turn {turn}: {facts}")
            grown_mib.append(resident_mib() - before_mib)

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        list(pool.map(work, range(_NUM_THREADS)))
    assert not failures, failures[:5]
    # How many are kept by now depends on the last thread that forgot them all.
    engine.prepare(ids)
    facts = engine.context_cache()
    assert facts["max_bytes"] == _CACHE_MB * 2**20
    assert 100 < facts["num_contexts"] < _NUM_PASSAGES
    assert min(facts["num_hits"], facts["num_misses"]) > _NUM_TURNS
    # Beside the two: stacks of threads, batches and logits, and the allocator's slack.
    bound_mib = engine.facts["ceiling_bytes"] / 2**20 + _CACHE_MB + 24
    assert len(grown_mib) == _NUM_THREADS * _NUM_TURNS and max(grown_mib) < bound_mib
