from __future__ import annotations

import pytest

from runtime.bench.measure import (
    ENGINE,
    SCOPES,
    TEXT_TO_ANSWER,
    Clock,
    Record,
    Timer,
    measure_rounds,
    rotated,
    take_turns,
)
from runtime.bench.peers.base import Peer
from runtime.bench.workload import Workload
from tests.support.data.text import make_tokenizer
from tests.unit.runtime.bench.fakes import (
    LIMITS,
    FakeKeepingEngine,
    FakeTime,
    make_peer,
    make_split_peer,
    make_work,
)


def test_rotated() -> None:
    assert [rotated("abc", turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]
    assert rotated([], 3) == []


def test_everybody_does_every_round_and_the_order_rotates() -> None:
    peers = [make_peer(name) for name in "abc"]
    rounds = make_work([1, 2, 3, 4]).rounds(2)
    seen: list[tuple[str, str, int]] = []

    def note(kind: str, peer: Peer, work: Workload) -> None:
        seen.append((kind, peer.engine, rounds.index(work)))

    take_turns(peers, rounds, [lambda p, w: note("fast", p, w), lambda p, w: note("slow", p, w)])
    assert [(kind, engine) for kind, engine, turn in seen if turn == 0] == [
        *(("fast", name) for name in "abc"),
        *(("slow", name) for name in "bca"),
    ]
    assert [engine for kind, engine, turn in seen if turn == 1] == [*"bca", *"cab"]
    # Interleaved: nobody's second round comes before anybody's first.
    assert [turn for *_, turn in seen] == [0] * 6 + [1] * 6


def _timer(time: FakeTime) -> Timer:
    return Timer(make_tokenizer(), LIMITS, time.clock)


def test_throughput_counts_real_tokens_and_only_the_engine() -> None:
    time = FakeTime()
    peer = make_peer("a", time=time, seconds_per_token=0.001)
    work = make_work([5, 10, 20])
    record = Record()
    _timer(time).throughput(peer, ENGINE, work, record)
    (rate,) = record.rates[ENGINE]
    assert rate.num_tokens == sum(work.lengths)
    assert rate.num_sequences == rate.num_questions == 3
    assert rate.seconds == pytest.approx(0.001 * sum(work.lengths))
    assert rate.tokens_per_second == pytest.approx(1000)
    assert rate.busy_cpus == pytest.approx(1)


def test_text_to_answer_keeps_answers_and_forgets_contexts() -> None:
    time = FakeTime()
    timer, record = _timer(time), Record()
    peer = make_peer("a", time=time)
    work = make_work([5, 10])
    for _ in range(2):
        timer.throughput(peer, TEXT_TO_ANSWER, work, record)
    assert record.predictions.keys() == {"0", "1"}
    assert len(record.rates[TEXT_TO_ANSWER]) == 2


def test_latency_asks_one_question_at_a_time() -> None:
    time = FakeTime()
    record = Record()
    peer = make_peer("a", time=time, seconds_per_token=0.001)
    work = make_work([5, 10, 100])
    for scope in SCOPES:
        _timer(time).latency(peer, scope, work, record)
    (latencies_ms,) = record.latencies_ms[ENGINE]
    tokens = [sum(window.num_tokens for window in windows) for windows in work.windows]
    assert latencies_ms == pytest.approx(tokens)
    # All windows of a question go together.
    assert [batch.num_sequences for batch in peer.runner.batches[:3]] == [  # type: ignore[attr-defined]
        len(windows) for windows in work.windows
    ]
    assert len(record.latencies_ms[TEXT_TO_ANSWER][0]) == 3


def test_rounds_fill_all_records_and_share_latencies() -> None:
    time = FakeTime()
    peers = [
        make_peer("a", "batch 1", compiled="same", time=time),
        make_peer("a", "batch 8", compiled="same", time=time),
        make_peer("b", time=time, seconds_per_token=0.002),
    ]
    rounds = make_work([3, 6, 9, 12, 15]).rounds(2)
    notes: list[str] = []
    records = measure_rounds(
        _timer(time), peers, rounds, scopes=SCOPES, latency_per_round=2, progress=notes.append
    )
    assert len(notes) == 2 * 2 * 2 * 3
    for peer in peers:
        for scope in SCOPES:
            assert len(records[peer].rates[scope]) == 2
            assert [len(part) for part in records[peer].latencies_ms[scope]] == [2, 2]
    assert records[peers[0]].latencies_ms is records[peers[1]].latencies_ms
    fast, slow = (records[peers[i]].rates[ENGINE] for i in (0, 2))
    assert [b.seconds / a.seconds for a, b in zip(fast, slow, strict=True)] == pytest.approx([2, 2])


def test_waits_until_nobody_spins() -> None:
    time = FakeTime()
    spins = iter([0.02, 0.02, 0.0])

    def sleep(seconds: float) -> None:
        time.now += seconds
        time.cpu += next(spins)

    assert Clock(lambda: time.now, lambda: time.cpu, sleep).wait_until_idle()
    assert next(spins, None) is None


def test_gives_up_on_one_who_never_stops() -> None:
    time = FakeTime()
    clock = Clock(lambda: time.now, lambda: time.cpu, time.work)
    assert not clock.wait_until_idle()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("is_warm", [False, True])
def test_kept_passages_are_as_every_timing_wants_them(scope: str, is_warm: bool) -> None:
    time, engine = FakeTime(), FakeKeepingEngine()
    timer = Timer(make_tokenizer(), LIMITS, time.clock, is_warm=is_warm)
    peer, work = make_split_peer(engine), make_work([5, 5, 20])
    begin: list[object] = ["forget", [len(part) for part in work.passages]][: 1 + is_warm]
    for measure, num_runs in ((timer.throughput, 1), (timer.latency, 3)):
        engine.notes.clear()
        measure(peer, scope, work, Record())
        assert engine.notes == begin + ["run"] * num_runs
    assert len(work.passages) == 2
