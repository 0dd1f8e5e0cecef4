"""Chunks computed in this process: how many at a time, and what becomes of them at an end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_rt.api import Runtime
from bert_rt.errors import EngineInternalError, InputError
from runtime.batch import here
from runtime.batch.chunks import Chunk
from tests.unit.runtime.batch.support import pairs

WAIT_S = 30.0


@pytest.fixture(params=["reference", "onnxruntime"])
def runtime(request: pytest.FixtureRequest, artifact_dir: Path) -> Iterator[Runtime]:
    with Runtime.load(artifact_dir, engine=request.param) as opened:
        yield opened


def chunks_of(count: int) -> list[Chunk]:
    items = [(row["question"], row["context"]) for row in pairs(2 * count)]
    return [Chunk(items=items[2 * i : 2 * i + 2]) for i in range(count)]


def test_chunks_come_out_in_order_with_their_own_results(runtime: Runtime) -> None:
    chunks = chunks_of(5)
    computed = list(here.compute_here(runtime, runtime.options(), chunks))
    assert [chunk for chunk, _ in computed] == chunks
    for chunk, (results, num_tokens) in computed:
        answers = runtime.answer_batch(chunk.items)
        assert [it["text"] for it in results] == [it.text for it in answers]  # type: ignore[index]
        assert num_tokens > 0


@pytest.mark.parametrize("num_chunks", [1, 2])
def test_only_an_engine_without_padding_has_two_at_a_time(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, num_chunks: int
) -> None:
    lock, running, most = threading.Lock(), [0], [0]
    wanted = num_chunks if runtime.info.is_packed else 1
    barrier = threading.Barrier(wanted)

    def computing(*_: Any) -> tuple[list[Any], int]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        barrier.wait(WAIT_S)  # broken, where fewer than wanted come
        with lock:
            running[0] -= 1
        return [], 0

    monkeypatch.setattr(here, "compute", computing)
    found = here.compute_here(runtime, runtime.options(), chunks_of(4), num_chunks=num_chunks)
    assert len(list(found)) == 4
    assert most == [wanted]


def test_what_was_read_before_an_error_comes_out_before_it(runtime: Runtime) -> None:
    def reading() -> Iterator[Chunk]:
        yield from chunks_of(3)
        raise InputError("row 7 is bad")

    found = here.compute_here(runtime, runtime.options(), reading())
    assert len(list(itertools.islice(found, 3))) == 3
    with pytest.raises(InputError, match="row 7"):
        next(found)


def test_an_engine_that_fails_ends_it_behind_the_chunks_before(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = chunks_of(4)
    original = here.compute

    def failing(*args: Any) -> Any:
        if args[2] is chunks[2].items:
            raise EngineInternalError("engine: failed")
        return original(*args)

    monkeypatch.setattr(here, "compute", failing)
    found = here.compute_here(runtime, runtime.options(), chunks)
    assert [next(found)[0], next(found)[0]] == chunks[:2]
    with pytest.raises(EngineInternalError):
        next(found)


def test_a_caller_that_ends_waits_for_no_chunk(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, was_cancelled, has_begun = chunks_of(4), [], threading.Event()

    def computing(*args: Any) -> tuple[list[Any], int]:
        if args[2] is not chunks[0].items:
            has_begun.set()
            was_cancelled.append(args[3].cancelled.wait(WAIT_S))
        return [], 0

    monkeypatch.setattr(here, "compute", computing)
    found = here.compute_here(runtime, runtime.options(), chunks)
    assert next(found)[0] is chunks[0]
    assert has_begun.wait(WAIT_S if runtime.info.is_packed else 0) == runtime.info.is_packed
    found.close()
    assert was_cancelled == ([True] if runtime.info.is_packed else [])
