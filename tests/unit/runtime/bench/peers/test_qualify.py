from __future__ import annotations

from runtime.bench.peers.base import Peer
from runtime.bench.peers.qualify import Qualified, choose, qualify, warm_up
from tests.unit.runtime.bench.fakes import FakeTime, make_peer, make_work


def _finding(peer: Peer, speed: float, latency_ms: float = 5.0) -> Qualified:
    return Qualified(peer, speed, 100 * speed, [latency_ms])


def test_the_clearly_slower_are_dropped() -> None:
    findings = [
        _finding(make_peer("a", "1"), 80),
        _finding(make_peer("a", "2"), 100),
        _finding(make_peer("a", "3"), 90),
        _finding(make_peer("b", "1"), 10),
    ]
    choose(findings)
    assert [finding.is_kept for finding in findings] == [False, True, True, True]


def test_ties_are_cut_and_float_has_one_place() -> None:
    findings = [_finding(make_peer("a", str(i), compiled="same"), 100 - i) for i in range(5)]
    floats = [
        _finding(make_peer("a", f"f{i}", precision="float", compiled="f"), 50 - i) for i in range(2)
    ]
    choose([*findings, *floats])
    kept = [finding.peer.config for finding in (*findings, *floats) if finding.is_kept]
    assert kept == ["0", "1", "2", "f0"]


def test_fewer_finalists_may_be_asked_for() -> None:
    findings = [_finding(make_peer("a", str(i), compiled="same"), 100 - i) for i in range(3)]
    choose(findings, finalists=1)
    assert [finding.is_kept for finding in findings] == [True, False, False]


def test_the_quickest_single_request_goes_on_too() -> None:
    findings = [
        _finding(make_peer("a", "streams"), 100, 9.0),
        _finding(make_peer("a", "one, batch 1", compiled="one"), 50, 5.0),
        _finding(make_peer("a", "one, batch 8", compiled="one"), 60, 5.0),
    ]
    choose(findings)
    assert [finding.is_kept for finding in findings] == [True, False, True]


def test_qualify_measures_everybody_on_the_same_sample() -> None:
    time = FakeTime()
    peers = [
        make_peer("a", str(speed), time=time, seconds_per_token=1 / speed) for speed in (100, 200)
    ]
    notes: list[str] = []
    findings = qualify(peers, make_work([5, 10, 15]).features, time.clock, notes.append)
    assert [round(finding.tokens_per_second) for finding in findings] == [100, 200]
    assert [finding.is_kept for finding in findings] == [False, True]
    assert len(notes) == 4
    assert findings[0].idle_cpu_ms == 0


def test_a_short_sample_is_repeated_until_a_second_is_over() -> None:
    time = FakeTime()
    peer = make_peer("a", time=time, seconds_per_token=0.001)  # 45 tokens a pass
    (finding,) = qualify([peer], make_work([5, 10, 15]).features, time.clock, lambda _: None)
    timed = [batch for batch in peer.runner.batches if len(batch.cu_seqlens) > 2]  # type: ignore[attr-defined]
    assert len(timed) == 1 + 2 * 23
    assert round(finding.tokens_per_second) == 1000


def test_warm_up_runs_what_will_come() -> None:
    peer = make_peer("a")
    rounds = make_work([5, 10, 15, 5]).rounds(2)
    warm_up(peer, rounds, 2)
    first = peer.runner.batches[0]  # type: ignore[attr-defined]
    assert first.num_tokens == sum(rounds[0].lengths)
