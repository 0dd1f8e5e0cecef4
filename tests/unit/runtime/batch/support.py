"""Rows and runs that the tests of batch share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_rt.support.cli import run_command
from runtime.batch.__main__ import main
from tests.support.artifacts import PAIRS


def pairs(count: int) -> list[dict[str, Any]]:
    """Return rows of questions and contexts with ids."""
    rows = []
    for index in range(count):
        question, context = PAIRS[index % len(PAIRS)]
        rows.append({"id": f"q{index}", "question": question, "context": context + " x" * index})
    return rows


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    """Write rows as JSON Lines; strings as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def batch(*argv: object) -> int:
    """Run the command in this process."""
    return run_command(main, [str(it) for it in argv])


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as Parquet, a few a row group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=3)
    return path
