"""Engines and clocks that take as long as a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bert_rt.engines.base import EngineInfo
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.squad import SquadExample
from bert_rt.types import PER_TOKEN, FloatArray, IntArray, Outputs, PackedBatch
from runtime.bench.measure import Clock, Record
from runtime.bench.peers.base import Peer
from runtime.bench.statistics import Rate
from runtime.bench.workload import Workload
from tests.support.data.text import make_windows

LIMITS = AnsweringConfig(max_seq_length=48, doc_stride=12, max_query_length=16, max_answer_length=8)


class FakeTime:
    """A clock that only moves when somebody works or sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.cpu += seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.cpu, self.sleep)


class FakeEngine:
    """Takes some seconds a token and notes what it was given."""

    def __init__(self, work: Callable[[float], None], seconds_per_token: float) -> None:
        self._work = work
        self._seconds = seconds_per_token
        self.batches: list[PackedBatch] = []

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("fake", "1", "cpu", "int8", 1, is_packed=True)

    @property
    def outputs(self) -> dict[str, str]:
        return {"start_logits": PER_TOKEN, "end_logits": PER_TOKEN}

    def run(self, batch: PackedBatch) -> Outputs:
        self.batches.append(batch)
        self._work(self._seconds * batch.num_tokens)
        zeros = np.zeros(batch.num_tokens, np.float32)
        return dict.fromkeys(self.outputs, zeros)

    def close(self) -> None:
        pass


class FakeKeepingEngine(FakeEngine):
    """Notes what it was asked to keep; a passage takes a byte a token."""

    def __init__(self, max_bytes: int = 10**6) -> None:
        super().__init__(lambda _: None, 0.0)
        self.max_bytes = max_bytes
        self.notes: list[object] = []

    def prepare(self, passages: Sequence[IntArray]) -> None:
        self.notes.append([len(passage) for passage in passages])

    def prepared_states(self, passages: Sequence[IntArray]) -> FloatArray:
        self.prepare(passages)
        return np.zeros((sum(map(len, passages)), 1), np.float32)

    def keep(self, passages: Sequence[IntArray], states: FloatArray) -> None:
        assert len(states) == sum(map(len, passages))
        self.prepare(passages)

    def context_bytes(self, num_tokens: int) -> int:
        return num_tokens

    def context_cache(self) -> dict[str, int]:
        return {"max_bytes": self.max_bytes}

    def forget(self) -> None:
        self.notes.append("forget")

    def run(self, batch: PackedBatch) -> Outputs:
        self.notes.append("run")
        return super().run(batch)


def make_split_peer(engine: FakeKeepingEngine) -> Peer:
    return Peer("native:split-3", "", "int8", "split", engine, 1, passage_position_offset=18)


def make_peer(
    engine: str,
    config: str = "",
    *,
    precision: str = "int8",
    compiled: str = "",
    time: FakeTime | None = None,
    seconds_per_token: float = 0.001,
) -> Peer:
    runner = FakeEngine((time or FakeTime()).work, seconds_per_token)
    return Peer(engine, config, precision, compiled or engine + config, runner, 1)


def make_record(rates: list[float], latencies_ms: list[list[float]] | None = None) -> Record:
    """Make a record of the scope engine; rates are sequences a second of each round."""
    record = Record()
    record.rates["engine"] = [
        Rate(1.0, 1.0, int(rate), int(rate), 10 * int(rate)) for rate in rates
    ]
    record.latencies_ms["engine"] = latencies_ms or [[1.0]] * len(rates)
    return record


def make_work(lengths: list[int]) -> Workload:
    """Make questions of one window each; the lengths do not count the five tokens around it."""
    windows = tuple(tuple(make_windows(length, LIMITS)) for length in lengths)
    examples = tuple(
        SquadExample(str(i), "", "who sat", "the cat sat on the mat", ("cat",), (4,), False)
        for i in range(len(lengths))
    )
    return Workload(examples, windows, split_windows=windows)
