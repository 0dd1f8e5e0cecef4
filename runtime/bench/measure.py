"""Timing: who runs when, on what, and what is inside the timer.

    qualify     every configuration on a small sample; per engine the best go on
    warm up     every shape that will come, so that nobody compiles kernels inside the timer
    rounds      in each, everybody does the same questions, one after the other in an order that
                rotates; before each, the process must be idle

Clocks come from outside, so that tests can bring their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bert_rt.engines.base import keeping
from bert_rt.engines.packing import pack
from bert_rt.scheduling.scheduler import Scheduler
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.question_answering.answering import QuestionAnswering as AnsweringTask
from bert_rt.tasks.session import Session
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import PackedBatch
from runtime.bench.peers.base import Peer
from runtime.bench.statistics import Rate
from runtime.bench.workload import Workload, make_batches

__all__ = [
    "ENGINE",
    "SCOPES",
    "TEXT_TO_ANSWER",
    "Clock",
    "Record",
    "Timer",
    "measure_rounds",
    "rotated",
    "take_turns",
]

ENGINE = "engine"
TEXT_TO_ANSWER = "text_to_answer"
SCOPES = (ENGINE, TEXT_TO_ANSWER)

_QUEUE_TOKENS = 2**31
_IDLE_SLICE_S = 0.02
_IDLE_SHARE = 0.1
_IDLE_LIMIT_S = 1.0

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from.

    Attributes:
        now: Seconds of a monotonic clock.
        cpu: CPU seconds of all threads of this process.
        sleep: Waits for some seconds.
    """

    now: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    sleep: Callable[[float], None] = time.sleep

    def wait_until_idle(self) -> bool:
        """Wait until no thread of this process computes, or spins for work, any more.

        Returns:
            False where it still does after a second.
        """
        give_up = self.now() + _IDLE_LIMIT_S
        while True:
            before = self.cpu()
            self.sleep(_IDLE_SLICE_S)
            if self.cpu() - before < _IDLE_SHARE * _IDLE_SLICE_S:
                return True
            if self.now() >= give_up:
                return False


@dataclass(slots=True)
class Record:
    """What was measured of one peer.

    Attributes:
        rates: By scope, one a round.
        latencies_ms: By scope, for every round the single requests' milliseconds.
        predictions: Answer by question id.
        was_idle: Whether the process was idle before every timed pass.
    """

    rates: dict[str, list[Rate]] = field(default_factory=dict)
    latencies_ms: dict[str, list[list[float]]] = field(default_factory=dict)
    predictions: dict[str | int, str] = field(default_factory=dict)
    was_idle: bool = True


class Timer:
    """Times one peer on some questions."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        limits: AnsweringConfig,
        clock: Clock,
        *,
        is_warm: bool = False,
    ) -> None:
        """Prepare what all peers share.

        Args:
            tokenizer: The artifact's, for the scope text_to_answer.
            limits: Windows and spans.
            clock: Where time comes from.
            is_warm: Whether peers that keep passages have those of the questions before each
                timing; else they have none.
        """
        self._is_warm = is_warm
        self._tokenizer = tokenizer
        self._task = AnsweringTask()
        self._options = CallOptions(limits=limits)
        self.clock = clock

    def throughput(self, peer: Peer, scope: str, work: Workload, record: Record) -> None:
        """Time all questions at once and add the rate to the record.

        Args:
            peer: Who computes.
            scope: ENGINE hands over packed windows, made before the timer starts; TEXT_TO_ANSWER
                hands the raw strings to a new Session, whose cache of contexts is empty.
            work: The questions.
            record: Gets the rate, and in TEXT_TO_ANSWER the answers.
        """
        read = work.as_read(is_split=peer.is_split)
        self._set_cache(peer, read)
        if scope == ENGINE:
            batches = make_batches(read.features, max_tokens=peer.max_batch_tokens)
            before = self._start(record)
            for batch in batches:
                peer.runner.run(batch)
            seconds, cpu_seconds = self._stop(before)
        else:
            session = self._session(peer)
            pairs = work.pairs
            before = self._start(record)
            answers = list(session.stream(self._task, pairs, self._options))
            seconds, cpu_seconds = self._stop(before)
            for example, answer in zip(work.examples, answers, strict=True):
                record.predictions[example.id] = answer.text
        lengths = work.lengths
        rate = Rate(seconds, cpu_seconds, len(work.examples), len(lengths), sum(lengths))
        record.rates.setdefault(scope, []).append(rate)

    def latency(self, peer: Peer, scope: str, work: Workload, record: Record) -> None:
        """Time the questions one by one and add the milliseconds of each to the record.

        Args:
            peer: Who computes, on all its threads.
            scope: As in throughput.
            work: The questions; one that has several windows hands them over together.
            record: Gets the latencies.
        """
        now = self.clock.now
        latencies_ms = []
        read = work.as_read(is_split=peer.is_split)
        self._set_cache(peer, read)
        if scope == ENGINE:
            batches = [_pack_question(read, index) for index in range(len(work.examples))]
            self._start(record)
            for batch in batches:
                start = now()
                peer.runner.run(batch)
                latencies_ms.append((now() - start) * 1e3)
        else:
            session = self._session(peer)
            self._start(record)
            for pair in work.pairs:
                start = now()
                list(session.stream(self._task, [pair], self._options))
                latencies_ms.append((now() - start) * 1e3)
        record.latencies_ms.setdefault(scope, []).append(latencies_ms)

    def _session(self, peer: Peer) -> Session:
        scheduler = Scheduler(
            peer.runner, max_batch_tokens=peer.max_batch_tokens, max_queue_tokens=_QUEUE_TOKENS
        )
        return Session(
            self._tokenizer, scheduler, passage_position_offset=peer.passage_position_offset
        )

    def _set_cache(self, peer: Peer, read: Workload) -> None:
        if not peer.is_split:
            return
        engine = keeping(peer.runner)
        engine.forget()
        if self._is_warm:
            engine.prepare(read.passages)

    def _start(self, record: Record) -> tuple[float, float]:
        record.was_idle &= self.clock.wait_until_idle()
        return self.clock.now(), self.clock.cpu()

    def _stop(self, before: tuple[float, float]) -> tuple[float, float]:
        return self.clock.now() - before[0], self.clock.cpu() - before[1]


def _pack_question(work: Workload, index: int) -> PackedBatch:
    windows = work.windows[index]
    return pack(windows, max_tokens=sum(window.num_tokens for window in windows))


def rotated(items: Sequence[ItemT], turn: int) -> list[ItemT]:
    """Begin with another one every turn.

    Args:
        items: Who takes turns.
        turn: Number of the turn, from 0.

    Returns:
        All items, the one at index `turn` (modulo their number) first.
    """
    first = turn % len(items) if items else 0
    return [*items[first:], *items[:first]]


def take_turns(
    peers: Sequence[Peer],
    rounds: Sequence[Workload],
    actions: Sequence[Callable[[Peer, Workload], None]],
) -> None:
    """Let everybody do every round's questions, one kind of timing after the other.

    Args:
        peers: Who takes turns.
        rounds: The questions of each round.
        actions: Kinds of timing.
    """
    for turn, work in enumerate(rounds):
        for offset, action in enumerate(actions):
            for peer in rotated(peers, turn + offset):
                action(peer, work)


def measure_rounds(
    timer: Timer,
    peers: Sequence[Peer],
    rounds: Sequence[Workload],
    *,
    scopes: Sequence[str],
    latency_per_round: int,
    progress: Callable[[str], None],
) -> Mapping[Peer, Record]:
    """Measure peers on the same questions.

    Args:
        timer: Times them.
        peers: Who takes part, warmed up.
        rounds: The questions of each round.
        scopes: Of SCOPES.
        latency_per_round: Questions of a round that are also asked one by one.
        progress: Advanced at each pass that is done.

    Returns:
        The record of every peer; those that share a compiled model share their latencies, which
        were measured with the first of them.
    """
    records = {peer: Record() for peer in peers}
    first: dict[str, Peer] = {}
    for peer in peers:
        first.setdefault(peer.compiled, peer)

    def throughput(scope: str) -> Callable[[Peer, Workload], None]:
        def action(peer: Peer, work: Workload) -> None:
            timer.throughput(peer, scope, work, records[peer])
            progress(f"{scope}, {peer.name}")

        return action

    def latency(scope: str) -> Callable[[Peer, Workload], None]:
        def action(peer: Peer, work: Workload) -> None:
            if first[peer.compiled] is peer:
                few = work.part(range(min(latency_per_round, len(work.examples))))
                timer.latency(peer, scope, few, records[peer])
            progress(f"{scope}, single requests, {peer.name}")

        return action

    actions = [make(scope) for scope in scopes for make in (throughput, latency)]
    take_turns(peers, rounds, actions)
    for peer, record in records.items():
        record.latencies_ms = records[first[peer.compiled]].latencies_ms
    return records
