"""Tests of bert_rt.scheduling.arbiter: cores are lent in the order in which they are asked for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bert_rt.engines.base import EngineInfo
from bert_rt.scheduling import scheduler as scheduler_module
from bert_rt.scheduling.arbiter import ARBITER, Arbiter
from bert_rt.scheduling.scheduler import Scheduler
from bert_rt.types import PER_SEQUENCE, Outputs, PackedBatch, TokenSequence


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.001)


class CountingEngine:
    """Counts how many threads compute in all engines of a group."""

    def __init__(self, num_threads: int, group: dict[str, int], device: str = "cpu") -> None:
        self.info = EngineInfo("fake", "1", device, "float32", num_threads, True)
        self.outputs = {"logits": PER_SEQUENCE}
        self.group = group
        self.lock = threading.Lock()

    def run(self, batch: PackedBatch) -> Outputs:
        with self.lock:
            self.group["now"] += self.info.num_threads
            self.group["most"] = max(self.group["most"], self.group["now"])
        time.sleep(0.002)
        with self.lock:
            self.group["now"] -= self.info.num_threads
        return {"logits": np.zeros((batch.num_sequences, 1), np.float32)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("num_threads", "device", "most"), [(2, "cpu", 2), (1, "cpu", 2), (4, "cpu", 4), (2, "cuda", 4)]
)
def test_batches_of_all_schedulers_share_the_cores(
    num_threads: int, device: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "ARBITER", Arbiter(2))
    group = {"now": 0, "most": 0}
    engines = [CountingEngine(num_threads, group, device) for _ in range(3)]
    lock = threading.Lock()
    for engine in engines:
        engine.lock = lock
    schedulers = [Scheduler(e, max_batch_tokens=8, max_queue_tokens=10**6) for e in engines]
    window = TokenSequence(np.zeros(4, np.int32), np.zeros(4, np.int32))
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(s.run, [window] * 20) for s in schedulers * 2]
        assert all(len(call.result(60)) == 20 for call in calls)
    assert group["most"] == most


def test_first_come_first_served() -> None:
    arbiter = Arbiter(4)
    order: list[int] = []

    def take(index: int, num_threads: int) -> None:
        with arbiter.hold(num_threads):
            order.append(index)

    with ThreadPoolExecutor(8) as pool, arbiter.hold(2):
        # The wide one does not fit beside this, and the narrow ones do not overtake it.
        for index, num_threads in enumerate((4, 1, 1)):
            pool.submit(take, index, num_threads)
            wait_until(lambda index=index: len(arbiter._turns) == index + 1)  # type: ignore[misc]
        assert order == []
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]
    assert arbiter._num_free == 4


def test_an_error_gives_the_cores_back() -> None:
    arbiter = Arbiter(2)
    with pytest.raises(KeyboardInterrupt), arbiter.hold(2):
        raise KeyboardInterrupt
    with arbiter.hold(7):  # more threads than cores: all of them
        assert arbiter._num_free == 0
    assert arbiter._num_free == 2


def test_an_interrupted_wait_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    arbiter = Arbiter(1)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with arbiter.hold(1):
        monkeypatch.setattr(arbiter._condition, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt), arbiter.hold(1):
            pass
        assert not arbiter._turns
    monkeypatch.undo()
    with arbiter.hold(1):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_all_cores() -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ARBITER.hold(10**6):
            held.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    pid = os.fork()
    if pid == 0:
        with ARBITER.hold(1):
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    release.set()
    thread.join()
