"""Records -> the result as written with --json: rows, ratios and shares of the peak.

A ratio `a/b` sets an engine's best configuration against the other's best of the same run: best by
the median over rounds for throughput, by p50 for latency. `b:int8` admits INT8 configurations only,
`b` all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bert_rt.tasks.question_answering.metrics import evaluate_squad
from runtime.bench.measure import ENGINE, Record
from runtime.bench.peers.base import Peer
from runtime.bench.peers.qualify import Qualified
from runtime.bench.statistics import Spread, percentiles, ratio, spread
from runtime.bench.workload import Workload

__all__ = ["Records", "best", "make_ratios", "make_rows", "make_shares"]

Records = Mapping[Peer, Record]

_DIGITS = 4


def make_rows(
    findings: Sequence[Qualified], records: Records, work: Workload, *, with_negative: bool
) -> list[dict[str, Any]]:
    """Make one row a configuration and scope.

    Args:
        findings: Of all configurations.
        records: Of those that went on to the rounds.
        work: All questions, for the accuracy of the answers.
        with_negative: Whether answers are scored as SQuAD v2.0 does.

    Returns:
        The rows; "stage" is "rounds", or "qualifying" for what was dropped.
    """
    rows = []
    for finding in findings:
        peer = finding.peer
        head = {"engine": peer.engine, "config": peer.config}
        tail = {
            "precision": peer.precision,
            "num_threads": peer.num_threads,
            "idle_cpu_ms": round(finding.idle_cpu_ms, 2),
        }
        if not finding.is_kept:
            figures = _dropped(finding)
            rows.append({**head, "scope": ENGINE, **figures, "stage": "qualifying", **tail})
            continue
        record = records[peer]
        for scope in record.rates:
            row = {**head, "scope": scope, **_figures(record, scope), "stage": "rounds", **tail}
            if record.predictions and scope != ENGINE:
                row |= _accuracy(record, work, with_negative)
            rows.append(row)
    return rows


def _dropped(finding: Qualified) -> dict[str, Any]:
    return {
        "sequences_per_second": _rounded(finding.sequences_per_second),
        "tokens_per_second": _rounded(finding.tokens_per_second),
        **_percentiles(finding.latencies_ms),
    }


def _figures(record: Record, scope: str) -> dict[str, Any]:
    rates = record.rates[scope]
    sequences = spread([rate.sequences_per_second for rate in rates])
    latencies = [ms for latencies in record.latencies_ms[scope] for ms in latencies]
    return {
        "sequences_per_second": _rounded(sequences.median),
        "tokens_per_second": _rounded(spread([r.tokens_per_second for r in rates]).median),
        **_percentiles(latencies),
        "questions_per_second": _rounded(
            spread([rate.num_questions / rate.seconds for rate in rates]).median
        ),
        "sequences_per_second_low": _rounded(sequences.low),
        "sequences_per_second_high": _rounded(sequences.high),
        "sequences_per_second_rounds": [_rounded(rate.sequences_per_second) for rate in rates],
        # Unlike seconds, hardly disturbed by other processes; spinning counts.
        "sequences_per_cpu_second": _rounded(
            spread([rate.num_sequences / rate.cpu_seconds for rate in rates]).median
        ),
        "busy_cpus": _rounded(spread([rate.busy_cpus for rate in rates]).median),
        "num_single_requests": len(latencies),
        "was_idle_before": record.was_idle,
    }


def _percentiles(latencies_ms: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = percentiles(latencies_ms)
    return {"p50_ms": _rounded(p50), "p95_ms": _rounded(p95), "p99_ms": _rounded(p99)}


def _accuracy(record: Record, work: Workload, with_negative: bool) -> dict[str, Any]:
    scores = evaluate_squad(
        record.predictions, work.examples, version_2_with_negative=with_negative
    )
    return {"exact_match": round(scores.exact_match, 2), "f1": round(scores.f1, 2)}


def best(records: Records, engine: str, key: Callable[[Record], float]) -> Peer | None:
    """Find the peer that stands for an engine.

    Args:
        records: Of all peers in the rounds.
        engine: Its name; with ":int8" behind it, only INT8 configurations count.
        key: What is to be greatest.

    Returns:
        The peer, or None where the engine has none.
    """
    name = engine.removesuffix(":int8")
    is_int8 = name != engine
    found = [
        peer
        for peer in records
        if peer.engine == name and (not is_int8 or peer.precision == "int8")
    ]
    return max(found, key=lambda peer: key(records[peer]), default=None)


def make_ratios(records: Records, scopes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Set the native engine against everybody else.

    Args:
        records: Of all peers in the rounds.
        scopes: The scopes that were measured.

    Returns:
        {"native/openvino": {"engine": {"median", "low", "high", ...}, ..., "p50_latency": {...}}}.
        Throughput ratios above 1 and latency ratios below 1 say that the first one is faster.
    """
    engines = list(dict.fromkeys(peer.engine for peer in records))
    ours = [name for name in engines if name.startswith("native") and name != "native:1-thread"]
    others = [name for name in engines if not name.startswith("native")]
    others += [
        f"{name}:int8"
        for name in others
        if any(peer.precision == "int8" for peer in records if peer.engine == name)
    ]
    pairs = [(name, other) for name in ours for other in sorted(others)]
    if "native" in ours and "native:1-thread" in engines:
        pairs.append(("native", "native:1-thread"))
    if "native" in ours:
        split = dict.fromkeys(peer.engine for peer in records if peer.is_split)
        pairs += [(name, "native") for name in split]
    ratios: dict[str, dict[str, Any]] = {}
    for name, other in pairs:
        entry = ratios[f"{name}/{other}"] = {}
        for scope in scopes:
            entry[scope] = _throughput_ratio(records, name, other, scope)
        for scope in scopes:
            suffix = "latency" if scope == ENGINE else f"latency_{scope}"
            for index, rank in enumerate(("p50", "p95", "p99")):
                entry[f"{rank}_{suffix}"] = _latency_ratio(records, name, other, scope, index)
    return ratios


def _throughput_ratio(records: Records, name: str, other: str, scope: str) -> dict[str, Any]:
    def rounds(record: Record) -> list[float]:
        return [rate.sequences_per_second for rate in record.rates[scope]]

    return _ratio(records, name, other, rounds, lambda record: float(np.median(rounds(record))))


def _latency_ratio(
    records: Records, name: str, other: str, scope: str, index: int
) -> dict[str, Any]:
    def rounds(record: Record) -> list[float]:
        return [percentiles(latencies)[index] for latencies in record.latencies_ms[scope]]

    def quickness(record: Record) -> float:
        return -percentiles([ms for part in record.latencies_ms[scope] for ms in part])[0]

    return _ratio(records, name, other, rounds, quickness)


def _ratio(
    records: Records,
    name: str,
    other: str,
    rounds: Callable[[Record], list[float]],
    key: Callable[[Record], float],
) -> dict[str, Any]:
    over, under = best(records, name, key), best(records, other, key)
    assert over is not None and under is not None
    result = ratio(rounds(records[over]), rounds(records[under]))
    return {**_spread(result), "config": over.config, "against": under.config}


def make_shares(
    records: Records,
    operations: Sequence[int],
    peaks: Mapping[str, float],
    isas: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Compare arithmetic done with what the instruction set could do at best.

    Args:
        records: Of all peers in the rounds, scope engine.
        operations: Of each round's questions.
        peaks: Operations a second of one thread, by instruction set.
        isas: Instruction set in use, by the name of a native engine.

    Returns:
        By engine and "peak:ISA", in the form of ratios: {"native/peak:avx2": {"engine": {...}}}.
        The peak is that of as many threads as the engine has.
    """
    shares: dict[str, dict[str, Any]] = {}
    for peer, record in records.items():
        if peer.engine not in isas or ENGINE not in record.rates:
            continue
        done = [
            count / rate.seconds
            for count, rate in zip(operations, record.rates[ENGINE], strict=True)
        ]
        for isa in dict.fromkeys((isas[peer.engine], "avx512vnni")):
            if isa not in peaks:
                continue
            share = spread([value / (peaks[isa] * peer.num_threads) for value in done])
            shares[f"{peer.engine}/peak:{isa}"] = {
                ENGINE: {**_spread(share), "operations_per_second": float(np.median(done))}
            }
    return shares


def _spread(value: Spread) -> dict[str, float]:
    return {name: _rounded(figure) for name, figure in dataclasses.asdict(value).items()}


def _rounded(value: float) -> float:
    """Keep what is known: more digits are noise."""
    return float(f"{value:.{_DIGITS + 1}g}")
