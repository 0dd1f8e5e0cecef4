"""Which configurations may stand for their engine: a short round over all of them.

An engine has dozens of configurations, and only the best count. All run a small sample, twice in
turns; those clearly slower than their engine's best are dropped, and reported with what they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bert_rt.engines.packing import pack
from bert_rt.types import Feature
from runtime.bench.measure import Clock, rotated
from runtime.bench.peers.base import Peer
from runtime.bench.workload import Workload, evenly_spaced_blocks, make_batches

__all__ = ["DEFAULT_FINALISTS", "Qualified", "choose", "qualify", "warm_up"]

_MARGIN = 0.15
# Beyond these, near ties are dropped too, or a run would take an hour.
DEFAULT_FINALISTS = 3
_MAX_FLOAT_FINALISTS = 1

_BLOCK = 32
_NUM_BLOCKS = 2
_NUM_SINGLE = 9
_PASSES = 2
# A sample that takes less is repeated: a pass of a few tenths of a second says what the neighbours
# on the machine did.
_MIN_PASS_S = 1.0


@dataclass(slots=True)
class Qualified:
    """What the short round found of one peer.

    Attributes:
        peer: The peer.
        sequences_per_second: Of the better pass, scope engine.
        tokens_per_second: Of the better pass, scope engine.
        latencies_ms: Single requests of the peer's compiled model, the better of two passes each.
        idle_cpu_ms: CPU time of the process in the 200 ms after a run: spinning of idle threads.
        is_kept: Whether it goes on to the rounds.
    """

    peer: Peer
    sequences_per_second: float = 0.0
    tokens_per_second: float = 0.0
    latencies_ms: Sequence[float] = ()
    idle_cpu_ms: float = 0.0
    is_kept: bool = False

    @property
    def p50_ms(self) -> float:
        """Median of the single requests."""
        return float(np.median(self.latencies_ms))


def qualify(
    peers: Sequence[Peer],
    features: Sequence[Feature],
    clock: Clock,
    progress: Callable[[str], None],
    *,
    finalists: int = DEFAULT_FINALISTS,
) -> list[Qualified]:
    """Measure peers on a sample and choose.

    Args:
        peers: Configurations of one engine.
        features: All windows, to sample from.
        clock: Where time comes from.
        progress: Advanced at each peer that is done.
        finalists: As in choose.

    Returns:
        One finding a peer, in order.
    """
    findings = [Qualified(peer) for peer in peers]
    sample = evenly_spaced_blocks(features, min(_BLOCK, len(features)), _NUM_BLOCKS)
    single = evenly_spaced_blocks(features, 1, _NUM_SINGLE)
    for finding in findings:
        _pass(finding.peer, sample, clock)  # warms up
        finding.idle_cpu_ms = _idle_cpu_ms(clock)
    num_tokens = sum(feature.num_tokens for feature in sample)
    for turn in range(_PASSES):
        for finding in rotated(findings, turn * (len(findings) // _PASSES)):
            seconds = _pass(finding.peer, sample, clock, at_least_s=_MIN_PASS_S)
            finding.sequences_per_second = max(finding.sequences_per_second, len(sample) / seconds)
            finding.tokens_per_second = max(finding.tokens_per_second, num_tokens / seconds)
            progress(finding.peer.name)
    latencies: dict[str, list[float]] = {}
    for finding in findings:
        key = finding.peer.compiled
        if key not in latencies:
            latencies[key] = _latencies_ms(finding.peer, single, clock)
        finding.latencies_ms = latencies[key]
    choose(findings, finalists=finalists)
    return findings


def choose(findings: Iterable[Qualified], *, finalists: int = DEFAULT_FINALISTS) -> None:
    """Mark what goes on: per engine and precision the fastest, and the quickest to answer.

    Args:
        findings: What was measured; is_kept is set.
        finalists: How many INT8 configurations of an engine may go on for their throughput, of
            those within 15 % of its best; of float ones it is one.
    """
    most = {"int8": finalists, "float": min(finalists, _MAX_FLOAT_FINALISTS)}
    groups: dict[tuple[str, str], list[Qualified]] = {}
    for finding in findings:
        groups.setdefault(finding.peer.group, []).append(finding)
    for (_, precision), group in groups.items():
        group.sort(key=lambda finding: -finding.tokens_per_second)
        enough = group[0].tokens_per_second * (1 - _MARGIN)
        for finding in group[: most[precision]]:
            finding.is_kept = finding.tokens_per_second >= enough
        quickest = min(finding.p50_ms for finding in group)
        # Of those that share the quickest compiled model, the one with the best throughput; none
        # where one of them is kept already.
        sharing = [finding for finding in group if finding.p50_ms == quickest]
        if not any(finding.is_kept for finding in sharing):
            sharing[0].is_kept = True


def warm_up(peer: Peer, rounds: Sequence[Workload], latency_per_round: int) -> None:
    """Run what will be timed, as far as it matters that it has run before.

    Args:
        peer: Who computes.
        rounds: What will come; a peer that compiles shapes runs all of it, others the first.
        latency_per_round: Questions of a round that will come alone; of those, peers that compile
            shapes run one of every length on every stream.
    """
    for work in rounds if peer.compiles_shapes else rounds[:1]:
        for batch in make_batches(work.features, max_tokens=peer.max_batch_tokens):
            peer.runner.run(batch)
    alone = [windows for work in rounds for windows in work.windows[:latency_per_round]]
    if not peer.compiles_shapes:
        alone = alone[:_NUM_SINGLE]
    by_lengths = {tuple(window.num_tokens for window in windows): windows for windows in alone}
    for lengths, windows in by_lengths.items():
        for _ in range(peer.num_threads):
            peer.runner.run(pack(windows, max_tokens=sum(lengths)))


def _pass(
    peer: Peer, features: Sequence[Feature], clock: Clock, *, at_least_s: float = 0.0
) -> float:
    """Return the seconds of one run over the features, the mean of as many as the time takes."""
    batches = make_batches(features, max_tokens=peer.max_batch_tokens)
    clock.wait_until_idle()
    start = clock.now()
    count = 0
    elapsed_s = 0.0
    while count == 0 or elapsed_s < at_least_s:
        for batch in batches:
            peer.runner.run(batch)
        count += 1
        elapsed_s = clock.now() - start
    return elapsed_s / count


def _latencies_ms(peer: Peer, features: Sequence[Feature], clock: Clock) -> list[float]:
    batches = [make_batches([feature], max_tokens=feature.num_tokens)[0] for feature in features]
    best = [float("inf")] * len(batches)
    clock.wait_until_idle()
    for _ in range(1 + _PASSES):  # The first one warms up.
        for index, batch in enumerate(batches):
            start = clock.now()
            peer.runner.run(batch)
            best[index] = min(best[index], (clock.now() - start) * 1e3)
    return best


def _idle_cpu_ms(clock: Clock) -> float:
    before = clock.cpu()
    clock.sleep(0.2)
    return (clock.cpu() - before) * 1e3
