"""One run from end to end: open, qualify, warm up, measure in rounds, make the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bert_rt.engines.base import keeping
from bert_rt.errors import ConfigError, EngineUnavailableError
from bert_rt.scheduling.scheduler import Scheduler
from bert_rt.support.progress import progress
from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.limits import AnsweringConfig
from bert_rt.tasks.session import Session
from bert_rt.text.tokenization import Tokenizer
from runtime.bench.machine import IssueMeter, LoadMeter, describe_machine, measure_peaks
from runtime.bench.measure import (
    ENGINE,
    TEXT_TO_ANSWER,
    Clock,
    Record,
    Timer,
    measure_rounds,
)
from runtime.bench.peers.base import Absent, Peer, Peers, Setup
from runtime.bench.peers.loadgen import SCENARIOS, missing_loadgen, run_scenario
from runtime.bench.peers.qualify import DEFAULT_FINALISTS, Qualified, qualify, warm_up
from runtime.bench.peers.registry import PEERS
from runtime.bench.results import Records, best, make_ratios, make_rows, make_shares
from runtime.bench.workload import ARITHMETIC, Workload, num_operations

__all__ = ["Plan", "run"]

_LOADGEN_SECONDS = 5.0
_MAX_QUEUE_TOKENS = 2**31
# Of one CPU: more than this for others, and figures are not to be trusted.
_MAX_OTHER_CPUS = 0.1
# Below this part of the most, the cores were shared.
_MIN_ISSUE_SHARE = 0.8
_MAX_IDLE_SHARE = 0.1

TIMER = {
    "engine": "packed token ids -> logits of every token: sorting, padding and cutting included "
    "where an engine needs them; tokenization and span decode are not",
    "text_to_answer": "raw strings -> Answer, through answering.Session for every engine: "
    "tokenization, windows, batching, engine, span decode; a new Session, with an empty cache of "
    "contexts, for every timing",
    "single requests": "one question after the other, all threads for each, both scopes",
}
METHOD = {
    "questions": "spread evenly over the file, shuffled, dealt out to the rounds: in a round all "
    "configurations do the same ones, one after the other, in an order that rotates",
    "configurations": "all of them do a short round; at most --finalists INT8 and 1 float one of "
    "an engine within 15 % of its best, and the one with the quickest single request, go on; "
    "OpenVINO runs every shape of the rounds before they start",
    "threads": "one process; before every timing, it is waited until the process uses no CPU, so "
    "that no other engine's threads spin; idle_cpu_ms in the JSON is the CPU time of the process "
    "in the 200 ms after a run",
    "ratios": "made round by round; an engine's best configuration has the greatest median "
    "throughput, or the least p50, of this run, for each scope by itself",
    "native engine": "as Runtime.load opens it, in batches of 4096 tokens in the order of arrival; "
    "the others see all questions at once and sort them by length",
    "arithmetic": ARITHMETIC
    + "; peak: the native engine's own loop of dot-product instructions on "
    "registers, on all threads at once, in this process",
}


# Where questions on a passage stay together.
REUSE = {
    "questions": "of passages spread evenly over the file, in the file's order, those of a passage "
    "together, dealt out to the rounds by passages: in a round all configurations do the same "
    "ones, one after the other, in an order that rotates",
    "kept passages": "native:split-K begins every timing with an empty cache; with --warm_contexts "
    "with all passages of the round in it, prepared before the timer starts. Sequences and tokens "
    "are counted as ordinary windows for every engine",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to measure.

    Attributes:
        setup: What engines are opened with.
        tokenizer: The artifact's.
        limits: The artifact's.
        work: All questions.
        data: Name of their file.
        num_rounds: At most the number of questions.
        latency_limit: Questions that are also asked one by one.
        scopes: Of measure.SCOPES.
        engines: Of PEERS, each of which must run; empty for all that can.
        with_loadgen: Whether to run LoadGen's scenarios too.
        finalists: As in runtime.bench.peers.qualify.choose.
        int8_only: Whether float configurations are left out.
        is_warm: As in Timer.
    """

    setup: Setup
    tokenizer: Tokenizer
    limits: AnsweringConfig
    work: Workload
    data: str
    num_rounds: int
    latency_limit: int
    scopes: Sequence[str]
    engines: Sequence[str]
    with_loadgen: bool = False
    finalists: int = DEFAULT_FINALISTS
    int8_only: bool = False
    is_warm: bool = False


def run(plan: Plan, *, clock: Clock) -> dict[str, Any]:
    """Measure.

    Args:
        plan: What to measure.
        clock: Where time comes from.

    Returns:
        The result, as --json writes it.

    Raises:
        EngineUnavailableError: An engine asked for by name cannot run, or none can.
        ConfigError: LoadGen is asked for and not installed.
    """
    reason = missing_loadgen() if plan.with_loadgen else None
    if reason is not None:
        raise ConfigError(f"--loadgen: {reason}")
    findings, absent = _open_and_qualify(plan, clock)
    kept = [finding.peer for finding in findings if finding.is_kept]
    if not kept:
        reasons = "; ".join(f"{entry.engine}: {entry.reason}" for entry in absent)
        raise EngineUnavailableError(f"engines: none can run here ({reasons})")
    rounds = plan.work.rounds(plan.num_rounds)
    if plan.is_warm:
        _check_room([peer for peer in kept if peer.is_split], rounds)
    latency_per_round = -(-plan.latency_limit // plan.num_rounds)
    with progress("warm up", total=len(kept), unit="configurations") as shown:
        for peer in kept:
            read = [work.as_read(is_split=peer.is_split) for work in rounds]
            warm_up(peer, read, latency_per_round)
            shown.advance(note=peer.name)
    peaks = _peaks(plan, kept)
    timer = Timer(plan.tokenizer, plan.limits, clock, is_warm=plan.is_warm)
    load, issue = LoadMeter(), IssueMeter(plan.setup.num_threads)
    total = len(kept) * len(rounds) * len(plan.scopes) * 2
    with progress("measure", total=total, unit="passes") as shown:

        def passed(note: str) -> None:
            issue.sample()
            shown.advance(note=note)

        records = measure_rounds(
            timer,
            kept,
            rounds,
            scopes=plan.scopes,
            latency_per_round=latency_per_round,
            progress=passed,
        )
    meters = {"other_cpus": load.stop(), "issue_width": issue.summary()}
    peaks = {isa: max(peak, peaks[isa]) for isa, peak in _peaks(plan, kept).items()}
    return _result(plan, findings, absent, records, rounds, peaks, meters)


def _open_and_qualify(plan: Plan, clock: Clock) -> tuple[list[Qualified], list[Absent]]:
    findings: list[Qualified] = []
    absent: list[Absent] = []
    for name in plan.engines or PEERS:
        peers = PEERS[name](plan.setup)
        if plan.int8_only:
            _leave_out_float(name, peers)
        absent += peers.absent
        if not peers.open:
            if name in plan.engines:
                raise EngineUnavailableError(
                    f"engine: {name!r} cannot run here: {peers.absent[0].reason}"
                )
            continue
        found = _qualify(name, plan, clock, peers.open)
        for finding in found:
            if not finding.is_kept:
                finding.peer.runner.close()
        findings += found
    return findings, absent


def _qualify(name: str, plan: Plan, clock: Clock, peers: Sequence[Peer]) -> list[Qualified]:
    found: list[Qualified] = []
    with progress(f"qualify {name}", total=2 * len(peers), unit="passes") as shown:
        for is_split in sorted({peer.is_split for peer in peers}):
            found += qualify(
                [peer for peer in peers if peer.is_split is is_split],
                plan.work.as_read(is_split=is_split).features,
                clock,
                lambda note: shown.advance(note=note),
                finalists=plan.finalists,
            )
    return found


def _check_room(peers: Sequence[Peer], rounds: Sequence[Workload]) -> None:
    """Refuse warm passages that a cache cannot hold."""
    for peer in peers:
        engine = keeping(peer.runner)
        got = engine.context_cache()["max_bytes"]
        for work in rounds:
            parts = work.as_read(is_split=True).passages
            want = sum(engine.context_bytes(len(part)) for part in parts)
            if want > got:
                raise ConfigError(
                    f"max_context_cache_mb: got {got // 2**20}, want at least "
                    f"{-(-want // 2**20)} for the passages of a round, or more rounds"
                )


def _leave_out_float(engine: str, peers: Peers) -> None:
    for peer in [peer for peer in peers.open if peer.precision != "int8"]:
        peer.runner.close()
        peers.open.remove(peer)
        peers.absent.append(Absent(engine, peer.config, "left out: --int8_only"))


def _peaks(plan: Plan, peers: Sequence[Peer]) -> Mapping[str, float]:
    isas = [peer.runner.info.isa for peer in peers if peer.engine.startswith("native")]
    if not isas:
        return {}
    from bert_rt import _native

    wanted = [
        isa for isa in dict.fromkeys((*isas, "avx512vnni")) if isa in _native.supported_isas()
    ]
    return measure_peaks(wanted, plan.setup.num_threads)


def _result(
    plan: Plan,
    findings: Sequence[Qualified],
    absent: Sequence[Absent],
    records: Records,
    rounds: Sequence[Workload],
    peaks: Mapping[str, float],
    meters: Mapping[str, Any],
) -> dict[str, Any]:
    manifest = plan.setup.artifact.manifest
    operations = [num_operations(manifest.architecture, work.lengths) for work in rounds]
    # Split layers leave out some of the arithmetic that is counted.
    isas = {peer.engine: peer.runner.info.isa for peer in records if not peer.is_split}
    negative = plan.limits.version_2_with_negative
    rows = make_rows(findings, records, plan.work, with_negative=negative)
    ratios = make_ratios(records, plan.scopes) | make_shares(
        records, operations, peaks, {name: isa for name, isa in isas.items() if isa}
    )
    result = {
        "title": f"bert-rt bench, {plan.setup.num_threads} threads",
        "machine": {**describe_machine(plan.setup.num_threads), **meters},
        "workload": _describe_work(plan),
        "results": rows,
        "ratios": ratios,
        "peaks_per_thread": dict(peaks),
        "absent": [dataclasses.asdict(entry) for entry in absent],
        "warnings": _warnings(findings, records, **meters),
        "timer": TIMER,
        "method": METHOD | (REUSE if plan.work.by_context else {}),
    }
    if plan.with_loadgen:
        result["loadgen"] = _loadgen(plan, records)
    return result


def _describe_work(plan: Plan) -> dict[str, Any]:
    artifact = plan.setup.artifact
    lengths = plan.work.lengths
    return {
        "artifact": artifact.path.name if artifact.path is not None else "embedded default",
        "model_sha256": artifact.manifest.files["model.onnx"].sha256,
        "precision": artifact.manifest.precision,
        "data": plan.data,
        "questions": len(plan.work.examples),
        "sequences": len(lengths),
        "tokens": sum(lengths),
        "mean_tokens": round(sum(lengths) / len(lengths), 1),
        "rounds": plan.num_rounds,
        "contexts": len({example.context for example in plan.work.examples}),
        "by_context": plan.work.by_context,
        "warm_contexts": plan.is_warm,
        "split_artifacts": [
            {
                "num_split_layers": split.manifest.architecture.num_split_layers,
                "artifact": split.path.name if split.path is not None else "",
                "model_sha256": split.manifest.files["model.onnx"].sha256,
            }
            for split in plan.setup.split_artifacts
        ],
        "operations": num_operations(artifact.manifest.architecture, lengths),
    }


def _warnings(
    findings: Sequence[Qualified],
    records: Records,
    *,
    other_cpus: float | None,
    issue_width: Mapping[str, float] | None,
) -> list[str]:
    warnings = []
    if other_cpus is not None and other_cpus > _MAX_OTHER_CPUS:
        warnings.append(
            f"other processes kept {other_cpus:.2f} CPUs busy during the rounds: figures are too "
            "low, and ratios unsteady"
        )
    if issue_width is not None and issue_width["low"] < _MIN_ISSUE_SHARE * issue_width["high"]:
        warnings.append(
            f"cores took {issue_width['low']:.1f} to {issue_width['high']:.1f} instructions a "
            "cycle: other threads of the same cores were busy at times; throughput and shares of "
            "the peak are too low, for the loop that measures the peak does not feel them"
        )
    for peer, record in records.items():
        if not record.was_idle:
            warnings.append(f"threads of this process were busy before {peer.name} was timed")
    spinning = [f for f in findings if f.idle_cpu_ms > _MAX_IDLE_SHARE * 200]
    if spinning:
        names = ", ".join(finding.peer.name for finding in spinning)
        warnings.append(f"after a run, idle threads went on spinning for a while: {names}")
    return warnings


def _loadgen(plan: Plan, records: Records) -> list[dict[str, Any]]:
    def speed(record: Record) -> float:
        scope = TEXT_TO_ANSWER if TEXT_TO_ANSWER in record.rates else ENGINE
        rates = record.rates[scope]
        return sum(r.num_questions for r in rates) / sum(r.seconds for r in rates)

    rows = []
    for engine in dict.fromkeys(peer.engine for peer in records if ":" not in peer.engine):
        peer = best(records, engine, speed)
        assert peer is not None
        scheduler = Scheduler(
            peer.runner,
            max_batch_tokens=peer.max_batch_tokens,
            max_queue_tokens=_MAX_QUEUE_TOKENS,
        )
        options = CallOptions(limits=plan.limits)
        for scenario in SCENARIOS:
            row = run_scenario(
                scenario,
                Session(plan.tokenizer, scheduler),
                options,
                plan.work.pairs,
                questions_per_second=speed(records[peer]),
                seconds=_LOADGEN_SECONDS,
            )
            rows.append({"engine": engine, "config": peer.config, **row})
    return rows
