"""bert_rt.engines.native: opening, errors, forced instruction sets, forks and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bert_rt.engines import native
from bert_rt.engines.base import EngineOptions
from bert_rt.engines.native import NativeEngine, missing
from bert_rt.errors import (
    ArtifactFormatError,
    EngineInternalError,
    EngineUnavailableError,
    InputError,
)
from bert_rt.types import PER_SEQUENCE, PER_TOKEN, PackedBatch
from tests.kernels import graphs
from tests.kernels.support import ISAS, _native

MIB = 1 << 20


def batch_of(lengths: list[int], seed: int = 0) -> PackedBatch:
    ids, types, cu = graphs.random_batch(graphs.TINY, lengths, seed)
    return PackedBatch(ids, types, cu, max(lengths, default=0))


def spans(engine: NativeEngine, batch: PackedBatch) -> NDArray[np.float32]:
    logits = engine.run(batch)
    assert engine.outputs == {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}
    assert logits.keys() == engine.outputs.keys()
    return np.stack([logits["start_logits"], logits["end_logits"]])


@pytest.fixture(scope="module")
def model() -> bytes:
    data: bytes = graphs.build(graphs.TINY).SerializeToString()
    return data


def test_spans_and_classes_have_their_shapes(model: bytes) -> None:
    assert spans(NativeEngine(model, num_threads=1), batch_of([3, 5])).shape == (2, 8)
    spec = replace(graphs.TINY, num_labels=5)
    engine = NativeEngine(graphs.build(spec).SerializeToString(), num_threads=1)
    logits = engine.run(batch_of([3, 5, 1]))
    assert engine.outputs == {"logits": PER_SEQUENCE}
    assert logits.keys() == {"logits"}
    assert logits["logits"].shape == (3, 5)


def test_an_empty_batch_gives_empty_logits(model: bytes) -> None:
    assert spans(NativeEngine(model, num_threads=2), batch_of([])).shape == (2, 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("length", [1, 7, 40])
def test_a_lone_sequence_on_more_threads_than_it_has_tiles(
    model: bytes, isa: str, length: int
) -> None:
    batch = batch_of([length])
    alone = spans(NativeEngine(model, num_threads=1, isa=isa), batch)
    assert np.array_equal(spans(NativeEngine(model, num_threads=8, isa=isa), batch), alone)


@pytest.mark.parametrize("isa", ISAS)
def test_a_forced_isa_is_the_active_one(model: bytes, isa: str) -> None:
    assert NativeEngine(model, num_threads=1, isa=isa).info.isa == isa
    program = (
        "import sys; from bert_rt.engines.native import NativeEngine;"
        "print(NativeEngine(sys.stdin.buffer.read(), num_threads=1).info.isa)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program],
        input=model,
        env={**os.environ, "BERT_RT_ISA": isa},
        capture_output=True,
        check=True,
        cwd=Path(native.__file__).parents[2],
    )
    assert completed.stdout.decode().strip() == isa


def test_an_unknown_isa_is_an_error(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnavailableError, match="isa: got 'neon', want one of amx_int8"):
        NativeEngine(model, num_threads=1, isa="neon")
    monkeypatch.setenv("BERT_RT_ISA", "sse")
    with pytest.raises(EngineUnavailableError, match="BERT_RT_ISA: got 'sse'"):
        NativeEngine(model, num_threads=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": np.array([1, 97, 3], np.int32)}, r"input_ids\[1\]: got 97, want 0 to 96"),
        ({"input_ids": np.array([1, -1, 3], np.int32)}, r"input_ids\[1\]: got -1"),
        ({"token_type_ids": np.array([0, 0, 2], np.int32)}, r"token_type_ids\[2\]: got 2"),
        ({"token_type_ids": np.zeros(2, np.int32)}, "token_type_ids: got 2 values, want the 3"),
        ({"cu_seqlens": np.array([1, 3], np.int32)}, r"cu_seqlens\[0\]: got 1, want 0"),
        ({"cu_seqlens": np.array([0, 2], np.int32)}, "cu_seqlens: ends at 2, want the 3 tokens"),
        ({"cu_seqlens": np.array([0, 3, 3], np.int32)}, "sequence 1 has 0 tokens, want 1 to 64"),
        ({"cu_seqlens": np.array([0, 5, 3], np.int32)}, "sequence 1 has -2 tokens"),
        ({"cu_seqlens": np.zeros(0, np.int32)}, "cu_seqlens: got no value"),
        (
            {"logit_ranges": np.array([[2, 4]], np.int32)},
            r"logit_ranges\[0\]: got 2 to 4, want a range of the sequence's 3 tokens",
        ),
        ({"logit_ranges": np.array([[-1, 2]], np.int32)}, r"logit_ranges\[0\]: got -1 to 2"),
        ({"logit_ranges": np.array([[2, 1]], np.int32)}, r"logit_ranges\[0\]: got 2 to 1"),
        (
            {"logit_ranges": np.array([[0, 1], [0, 1]], np.int32)},
            "logit_ranges: got 2 ranges, want one for each of the 1 sequences",
        ),
        ({"logit_ranges": np.zeros(2, np.int32)}, r"logit_ranges: got shape \(2,\), want \(1, 2\)"),
    ],
)
def test_bad_batches_are_refused(
    model: bytes, change: dict[str, NDArray[np.int32]], message: str
) -> None:
    engine = NativeEngine(model, num_threads=1)
    with pytest.raises(InputError, match=message):
        engine.run(replace(batch_of([3]), **change))


def test_too_long_a_sequence_is_refused(model: bytes) -> None:
    with pytest.raises(InputError, match="sequence 0 has 65 tokens, want 1 to 64"):
        NativeEngine(model, num_threads=1).run(batch_of([65]))


def test_damage_is_an_artifact_error(model: bytes) -> None:
    with pytest.raises(ArtifactFormatError, match=r"model\.onnx"):
        NativeEngine(model[:-100], num_threads=1)
    with pytest.raises(ArtifactFormatError, match="no graph"):
        NativeEngine(b"", num_threads=1)


def test_float_models_and_other_devices_are_refused(model: bytes) -> None:
    assert missing(None, EngineOptions()) is None
    assert "only" in (missing(None, EngineOptions(device="cuda")) or "")


def test_without_the_module_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_load_module", lambda: None)
    reason = missing(None, EngineOptions())
    assert reason == "bert_rt._native is not built (no C++ compiler at install time)"
    with pytest.raises(EngineUnavailableError, match="not built"):
        NativeEngine(b"", num_threads=1)


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_num_threads_is_checked(model: bytes, threads: int) -> None:
    with pytest.raises(EngineUnavailableError, match="num_threads: got"):
        NativeEngine(model, num_threads=threads)


def test_a_closed_engine_says_so(model: bytes) -> None:
    engine = NativeEngine(model, num_threads=1)
    engine.close()
    engine.close()
    with pytest.raises(EngineInternalError, match="closed"):
        engine.run(batch_of([3]))


def test_many_threads_may_call_one_engine(model: bytes) -> None:
    engine = NativeEngine(model, num_threads=2)
    batches = [batch_of([1 + i % 60, 7], seed=i) for i in range(40)]
    want = [spans(engine, b) for b in batches]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda b: spans(engine, b), batches))
    for a, b in zip(got, want, strict=True):
        assert np.array_equal(a, b)


BEFORE_FORK = """
import os, sys, threading
import numpy as np
from bert_rt.engines.native import NativeEngine
from bert_rt.types import PackedBatch
engine = NativeEngine(sys.stdin.buffer.read(), num_threads=2)
ids = np.arange(60, dtype=np.int32)
batch = PackedBatch(ids, np.zeros_like(ids), np.array([0, 30, 60], np.int32), 30)
want = engine.run(batch)["start_logits"]
"""

FORK_PROGRAM = """
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = np.array_equal(engine.run(batch)["start_logits"], want)
        same = same and np.array_equal(engine.run(batch)["start_logits"], want)
        engine.close()
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(engine.run(batch)["start_logits"], want)
"""


# Threads that come at a time make one team of the child's; a race that few forks show.
THREADS_AFTER_FORK_PROGRAM = """
for _ in range(60):
    child = os.fork()
    if child == 0:
        barrier, are_same = threading.Barrier(4), []
        def run():
            barrier.wait()
            are_same.append(np.array_equal(engine.run(batch)["start_logits"], want))
        threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        os._exit(0 if are_same == [True] * 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("program", [FORK_PROGRAM, THREADS_AFTER_FORK_PROGRAM])
def test_it_works_after_a_fork(program: str, model: bytes) -> None:
    root = Path(native.__file__).parents[2]
    command = [sys.executable, "-c", BEFORE_FORK + program]
    subprocess.run(command, input=model, check=True, timeout=60, cwd=root)


def test_a_ceiling_that_cannot_hold_is_refused(model: bytes) -> None:
    big = graphs.build(replace(graphs.TINY, vocab_size=30_000)).SerializeToString()
    with pytest.raises(EngineUnavailableError, match="max_memory_mb: got 1, want at least"):
        NativeEngine(big, num_threads=2, max_memory_mb=1)
    facts = NativeEngine(model, num_threads=2, max_memory_mb=64).facts
    assert facts["ceiling_bytes"] <= 64 * MIB


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(3600)  # the long form takes minutes, ten on a busy machine
def test_memory_never_passes_the_stated_ceiling() -> None:
    """The stated ceiling plus the logits; 10,000 shapes with BERT_RT_LONG_TESTS=1."""
    spec = replace(graphs.TINY, max_position_embeddings=512, hidden_size=128)
    data = graphs.build(spec).SerializeToString()
    rng = np.random.default_rng(0)
    before = _resident_bytes()
    engine = _native.Engine(data, num_threads=2, max_memory_mb=64)
    ceiling = engine.info()["ceiling_bytes"]
    grown = []
    for _ in range(10_000 if os.environ.get("BERT_RT_LONG_TESTS") == "1" else 150):
        lengths = rng.integers(1, 513, rng.integers(1, 65)).tolist()
        engine.run(*graphs.random_batch(spec, lengths))
        grown.append(_resident_bytes() - before)
    # Beside the engine: batches and logits (below 1 MiB) and the allocator's slack.
    assert max(grown) < ceiling + 16 * MIB
    assert grown[-1] - grown[len(grown) // 2] < 4 * MIB
