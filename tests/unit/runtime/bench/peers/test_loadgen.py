from __future__ import annotations

from runtime.bench.peers.loadgen import parse_summary

_SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Completed samples per second    : 141.09
Result is : VALID
50.00 percentile latency (ns)   : 3225000
90.00 percentile latency (ns)   : 8224000
99.00 percentile latency (ns)   : 12457000
"""


def test_summary() -> None:
    assert parse_summary(_SUMMARY) == {
        "is_valid": True,
        "questions_per_second": 141.09,
        "p50_ms": 3.225,
        "p90_ms": 8.224,
        "p99_ms": 12.457,
    }


def test_a_summary_with_other_fields() -> None:
    row = parse_summary("Result is : INVALID\n")
    assert row["is_valid"] is False
    assert row["questions_per_second"] is None
