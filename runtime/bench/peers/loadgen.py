"""--loadgen: the scenarios of MLPerf Inference, driven by its own load generator.

SingleStream sends the next question when the last one is answered, MultiStream eight at a time,
Offline all at once, Server one by one at random moments. Text to answer, through our Session.

Source: Reddi et al. 2020, arXiv:1911.02549; package mlcommons-loadgen. Durations are far below
MLPerf's rules (`min_duration_ms`), so these are no MLPerf results.
"""

from __future__ import annotations

import importlib
import importlib.util
import queue
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bert_rt.tasks.base import CallOptions
from bert_rt.tasks.question_answering.answering import QuestionAnswering as AnsweringTask
from bert_rt.tasks.session import Session

__all__ = ["SCENARIOS", "missing_loadgen", "parse_summary", "run_scenario"]

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")

# Server: of what the engine does at most in one stream of batches. A queue at a higher load grows
# long for every engine, whatever its latency.
_SERVER_LOAD = 0.5
_SERVER_LATENCY_MS = 100
_MAX_TAKEN = 512


def missing_loadgen() -> str | None:
    """Say what is missing for the scenarios, or return None."""
    if importlib.util.find_spec("mlperf_loadgen") is None:
        return "the package mlcommons-loadgen is not installed (pip install mlcommons-loadgen)"
    return None


class _System:
    """Answers what the load generator asks; all that waits is answered together."""

    def __init__(
        self,
        loadgen: Any,
        session: Session,
        options: CallOptions,
        pairs: Sequence[tuple[str, str]],
    ) -> None:
        self._loadgen = loadgen
        self._session = session
        self._options = options
        self._pairs = pairs
        self._waiting: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="loadgen-answers")
        self._thread.start()

    def issue(self, samples: Iterable[Any]) -> None:
        for sample in samples:
            self._waiting.put((sample.id, sample.index))

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while True:
            taken = [self._waiting.get()]
            while len(taken) < _MAX_TAKEN and not self._waiting.empty():
                taken.append(self._waiting.get())
            wanted = [sample for sample in taken if sample is not None]
            if wanted:
                pairs = [self._pairs[index] for _, index in wanted]
                for _ in self._session.stream(AnsweringTask(), pairs, self._options):
                    pass
                self._loadgen.QuerySamplesComplete(
                    [self._loadgen.QuerySampleResponse(ident, 0, 0) for ident, _ in wanted]
                )
            if None in taken:
                return


def run_scenario(
    scenario: str,
    session: Session,
    options: CallOptions,
    pairs: Sequence[tuple[str, str]],
    *,
    questions_per_second: float,
    seconds: float,
) -> dict[str, Any]:
    """Run one scenario.

    Args:
        scenario: One of SCENARIOS.
        session: Answers.
        options: Limits.
        pairs: Questions and contexts to draw from.
        questions_per_second: What the engine was measured at, text to answer.
        seconds: Least duration.

    Returns:
        The row of parse_summary.
    """
    loadgen: Any = importlib.import_module("mlperf_loadgen")
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1e3)
    settings.min_query_count = 1
    settings.single_stream_expected_latency_ns = int(1e9 / questions_per_second)
    settings.multi_stream_expected_latency_ns = int(8e9 / questions_per_second)
    settings.offline_expected_qps = questions_per_second
    settings.server_target_qps = _SERVER_LOAD * questions_per_second
    settings.server_target_latency_ns = _SERVER_LATENCY_MS * 10**6
    system = _System(loadgen, session, options, pairs)
    with tempfile.TemporaryDirectory() as directory:
        output = loadgen.LogOutputSettings()
        output.outdir = directory
        log = loadgen.LogSettings()
        log.log_output = output
        sut = loadgen.ConstructSUT(system.issue, lambda: None)
        library = loadgen.ConstructQSL(len(pairs), len(pairs), lambda _: None, lambda _: None)
        try:
            loadgen.StartTestWithLogSettings(sut, library, settings, log)
        finally:
            system.close()
            loadgen.DestroyQSL(library)
            loadgen.DestroySUT(sut)
        summary = Path(directory, "mlperf_log_summary.txt").read_text(encoding="utf-8")
    return {"scenario": scenario, **parse_summary(summary)}


def parse_summary(text: str) -> dict[str, Any]:
    """Read what the load generator wrote.

    Args:
        text: mlperf_log_summary.txt.

    Returns:
        "is_valid", "questions_per_second" (None where the scenario has none) and "p50_ms",
        "p90_ms", "p99_ms" of a query's latency.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(" ".join(name.split()), value.strip())

    def number(*names: str) -> float | None:
        for name in names:
            if name in fields:
                return float(fields[name])
        return None

    row: dict[str, Any] = {
        "is_valid": fields.get("Result is") == "VALID",
        "questions_per_second": number(
            "Completed samples per second", "Samples per second", "QPS w/o loadgen overhead"
        ),
    }
    for rank in (50, 90, 99):
        latency_ns = number(f"{rank}.00 percentile latency (ns)")
        row[f"p{rank}_ms"] = None if latency_ns is None else round(latency_ns / 1e6, 3)
    return row
