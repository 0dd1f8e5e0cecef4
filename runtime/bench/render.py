"""The result for people: a compact table on the terminal, and a markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["markdown", "terminal"]

Result = Mapping[str, Any]


def terminal(result: Result) -> str:
    """Lay the result out for a terminal.

    Args:
        result: What --json writes.

    Returns:
        Lines of text: measured configurations, ratios, what is absent.
    """
    lines = [_headline(result), ""]
    rows = [row for row in result["results"] if row["stage"] == "rounds"]
    lines += _aligned([_HEADER, *(_cells(row) for row in rows)])
    num_dropped = sum(row["stage"] == "qualifying" for row in result["results"])
    if num_dropped:
        lines.append(f"({num_dropped} slower configurations were dropped after a short round)")
    lines.append("")
    lines += _aligned([("ratio", "of", "median", "low", "high"), *_ratio_cells(result)])
    lines += ["", *_aligned(_absent_cells(result))] if result["absent"] else []
    lines += [f"warning: {text}" for text in result["warnings"]]
    return "\n".join(lines)


def markdown(result: Result) -> str:
    """Lay the result out as a page that stands for itself.

    Args:
        result: What --json writes.

    Returns:
        The page.
    """
    rows = result["results"]
    measured = [row for row in rows if row["stage"] == "rounds"]
    dropped = [row for row in rows if row["stage"] == "qualifying"]
    parts = [f"# {result['title']}", _table(("", ""), _facts(result))]
    parts += [f"> {text}" for text in result["warnings"]]
    parts += ["## Ratios", _RATIO_TEXT, _table(_RATIO_HEADER, _ratio_cells(result, full=True))]
    parts += ["## Configurations", _ROW_TEXT, _table(_HEADER, [_cells(row) for row in measured])]
    if dropped:
        cells = [(*_cells(row)[:2], *_cells(row)[3:6]) for row in dropped]
        names = (*_HEADER[:2], *_HEADER[3:6])
        parts += ["## Dropped after the short round", _DROPPED_TEXT, _table(names, cells)]
    if result.get("loadgen"):
        parts += ["## LoadGen", _LOADGEN_TEXT, _table(_LOADGEN_HEADER, _loadgen_cells(result))]
    if result["absent"]:
        parts += ["## Absent", _table(_ABSENT_HEADER, _absent_cells(result))]
    method = [f"- {name}: {text}" for name, text in result["method"].items()]
    return "\n\n".join([*parts, "## Method", "\n".join(method)]) + "\n"


_HEADER = (
    "engine",
    "configuration",
    "scope",
    "seq/s",
    "tokens/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "CPUs",
    "F1",
)
_RATIO_HEADER = ("ratio", "of", "median", "low", "high", "with", "against")
_LOADGEN_HEADER = (
    "engine",
    "scenario",
    "valid",
    "questions/s",
    "p50 ms",
    "p90 ms",
    "p99 ms",
)

_ABSENT_HEADER = ("engine", "configuration", "not measured, because")

_RATIO_TEXT = (
    "Best configuration against best configuration; median, least and greatest of the rounds. "
    "Throughput: above 1 the first one is faster. Latency: below 1."
)
_ROW_TEXT = (
    "Throughput is the median over the rounds. Percentiles are of single requests, one after the "
    "other, at the questions' own lengths. CPUs: how many were busy for this process meanwhile."
)
_DROPPED_TEXT = "Figures of the short round: the better of two passes over a small sample."
_LOADGEN_TEXT = "Text to answer. Much shorter than MLPerf demands: no MLPerf results."


def _headline(result: Result) -> str:
    machine, work = result["machine"], result["workload"]
    return (
        f"{machine['cpu']}, {machine['num_threads']} threads; {work['questions']} questions, "
        f"{work['sequences']} sequences, {work['tokens']} tokens, {work['rounds']} rounds"
    )


def _facts(result: Result) -> list[tuple[str, str]]:
    machine, work = result["machine"], result["workload"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    peaks = ", ".join(
        f"{isa} {value / 1e12:.3f} TOP/s" for isa, value in result["peaks_per_thread"].items()
    )
    facts = [
        ("CPU", machine["cpu"]),
        ("instruction sets", " ".join(machine["isas"]) or "native engine not built"),
        ("threads", f"{machine['num_threads']} of {machine['physical_cores']} cores, every engine"),
        ("peak of one thread", peaks or "not measured"),
        ("instructions a cycle", _issue_width(machine.get("issue_width"))),
        ("system", machine["system"]),
        ("versions", versions),
        ("commit", machine["commit"] or "unknown"),
        ("date", machine["date"]),
        ("environment", " ".join(f"{k}={v}" for k, v in machine["environment"].items()) or "-"),
        ("artifact", work["artifact"]),
        (
            "questions",
            f"{work['questions']} of {work['data']}, evenly spaced: {work['sequences']} sequences, "
            f"{work['tokens']} tokens without padding, {work['mean_tokens']} on average",
        ),
        (
            "passages",
            f"{work['contexts']}, the questions on each "
            f"{'together' if work['by_context'] else 'apart'}"
            f"{', prepared before the timer starts' if work['warm_contexts'] else ''}",
        ),
        ("rounds", f"{work['rounds']}, each on its own share of the questions"),
    ]
    return facts + [(f"inside the timer: {k}", v) for k, v in result["timer"].items()]


def _issue_width(value: Mapping[str, float] | None) -> str:
    if value is None:
        return "not measured"
    return (
        f"{value['median']:.1f} nops between the passes (5th to 95th percentile: "
        f"{value['low']:.1f} to {value['high']:.1f}); fewer where a core's other thread is busy"
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["engine"],
        row["config"],
        row["scope"],
        f"{row['sequences_per_second']:.1f}",
        f"{row['tokens_per_second']:.0f}",
        f"{row['p50_ms']:.2f}",
        f"{row['p95_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
        f"{row['busy_cpus']:.2f}" if "busy_cpus" in row else "",
        f"{row['f1']:.1f}" if "f1" in row else "",
    )


def _ratio_cells(result: Result, *, full: bool = False) -> list[tuple[str, ...]]:
    cells = []
    for name, scopes in result["ratios"].items():
        for scope, value in scopes.items():
            # On the terminal only what is asked for most.
            if not full and scope.startswith(("p95", "p99")):
                continue
            figures = tuple(f"{value[key]:.3f}" for key in ("median", "low", "high"))
            names = (value.get("config", ""), value.get("against", "")) if full else ()
            cells.append((name, scope, *figures, *names))
    return cells


def _absent_cells(result: Result) -> list[tuple[str, ...]]:
    return [(entry["engine"], entry["config"], entry["reason"]) for entry in result["absent"]]


def _loadgen_cells(result: Result) -> list[tuple[str, ...]]:
    keys = ("questions_per_second", "p50_ms", "p90_ms", "p99_ms")
    return [
        (
            row["engine"],
            row["scenario"],
            "yes" if row["is_valid"] else "no",
            *("" if row[key] is None else f"{row[key]:.1f}" for key in keys),
        )
        for row in result["loadgen"]
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in lines
    )
