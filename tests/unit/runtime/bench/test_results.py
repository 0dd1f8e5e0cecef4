from __future__ import annotations

import pytest

from runtime.bench.peers.base import Peer
from runtime.bench.peers.qualify import Qualified
from runtime.bench.results import best, make_ratios, make_rows, make_shares
from tests.unit.runtime.bench.fakes import (
    FakeKeepingEngine,
    make_peer,
    make_record,
    make_split_peer,
    make_work,
)

_ROW = {
    "engine",
    "config",
    "scope",
    "sequences_per_second",
    "tokens_per_second",
    "p50_ms",
    "p95_ms",
    "p99_ms",
}


@pytest.fixture
def records() -> dict[Peer, object]:
    return {
        make_peer("native", "n"): make_record([200, 300, 200], [[2.0], [2.0], [4.0]]),
        make_peer("openvino", "slow"): make_record([100, 50, 100], [[4.0], [4.0], [4.0]]),
        make_peer("openvino", "fast"): make_record([100, 200, 100], [[5.0], [5.0], [5.0]]),
        make_peer("openvino", "float", precision="float"): make_record([400, 400, 400]),
    }


def test_a_ratio_is_against_the_best_configuration(records: dict[Peer, object]) -> None:
    ratios = make_ratios(records, ["engine"])  # type: ignore[arg-type]
    assert set(ratios) == {"native/openvino", "native/openvino:int8"}
    overall = ratios["native/openvino"]["engine"]
    assert overall["against"] == "float"
    assert overall["median"] == 0.5
    int8 = ratios["native/openvino:int8"]
    # "slow" and "fast" have the same median; the rounds decide nothing, the first one stands.
    assert int8["engine"]["against"] in ("slow", "fast")
    assert int8["engine"]["median"] == 2.0


def test_int8_ratios_are_named_so_where_nothing_else_was_measured(
    records: dict[Peer, object],
) -> None:
    int8 = {peer: record for peer, record in records.items() if peer.precision == "int8"}
    ratios = make_ratios(int8, ["engine"])  # type: ignore[arg-type]
    assert ratios["native/openvino:int8"] == ratios["native/openvino"]
    floats = {peer: record for peer, record in records.items() if peer.config != "slow"}
    del floats[next(peer for peer in floats if peer.config == "fast")]
    assert set(make_ratios(floats, ["engine"])) == {"native/openvino"}  # type: ignore[arg-type]


def test_latency_is_against_the_quickest(records: dict[Peer, object]) -> None:
    ratios = make_ratios(records, ["engine"])  # type: ignore[arg-type]
    latency = ratios["native/openvino:int8"]["p50_latency"]
    assert latency["against"] == "slow"
    assert (latency["median"], latency["low"], latency["high"]) == (0.5, 0.5, 1.0)
    assert {"p95_latency", "p99_latency"} <= set(ratios["native/openvino:int8"])


def test_best_of_an_engine_that_is_not_there() -> None:
    assert best({}, "openvino", lambda record: 0.0) is None


def test_native_is_set_against_itself_on_one_thread_only_for_scaling() -> None:
    records = {
        make_peer("native"): make_record([180, 190]),
        make_peer("native:1-thread"): make_record([100, 100]),
        make_peer("native:avx2"): make_record([90, 90]),
        make_peer("torch", precision="float"): make_record([30, 30]),
    }
    ratios = make_ratios(records, ["engine"])
    assert set(ratios) == {"native/torch", "native:avx2/torch", "native/native:1-thread"}
    assert ratios["native/native:1-thread"]["engine"]["median"] == 1.85


def test_rows_have_what_the_contract_says() -> None:
    kept, dropped = make_peer("native", "n"), make_peer("openvino", "slow")
    findings = [
        Qualified(kept, 1.0, 2.0, [3.0], is_kept=True),
        Qualified(dropped, 10.0, 1000.0, [3.0, 5.0]),
    ]
    work = make_work([4, 5])
    rows = make_rows(findings, {kept: make_record([100, 120])}, work, with_negative=False)
    assert all(set(row) >= _ROW for row in rows)
    assert [row["stage"] for row in rows] == ["rounds", "qualifying"]
    assert rows[0]["sequences_per_second"] == 110
    assert rows[0]["tokens_per_second"] == 1100
    assert rows[0]["sequences_per_second_low"] == 100
    assert (rows[1]["sequences_per_second"], rows[1]["p50_ms"]) == (10.0, 4.0)


def test_share_of_the_peak() -> None:
    records = {make_peer("native"): make_record([1, 1]), make_peer("torch"): make_record([1, 1])}
    peaks = {"amx_int8": 1000.0, "avx512vnni": 100.0}
    shares = make_shares(records, [50, 70], peaks, {"native": "amx_int8"})
    assert set(shares) == {"native/peak:amx_int8", "native/peak:avx512vnni"}
    share = shares["native/peak:avx512vnni"]["engine"]
    assert (share["median"], share["low"], share["high"]) == (0.6, 0.5, 0.7)


def test_split_layers_are_set_against_the_ordinary_model_and_everybody_else(
    records: dict[Peer, object],
) -> None:
    records[make_split_peer(FakeKeepingEngine())] = make_record([400, 300, 400])
    ratios = make_ratios(records, ["engine"])  # type: ignore[arg-type]
    assert ratios["native:split-3/native"]["engine"]["median"] == 2.0
    assert "native:split-3/openvino:int8" in ratios
