"""Writes pipeline.json anew: what Transformers 4.57 returns for the calls of pipeline_cases.py.

    python -m tests.golden.pipeline.update_pipeline PYTHON ../shared/models/minilm-l6-squad

PYTHON is that of an environment with `pip install torch==2.13.0 'transformers==4.57.*'`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.golden.pipeline.pipeline_cases import CASES, CHECKPOINTS, GOLDEN_FILE, write_checkpoint

_SCRIPT = Path(__file__).parents[3] / "benchmarks" / "transformers4_calls.py"


def run_requests(python: str, requests: list[dict[str, Any]], folder: Path) -> Any:
    """Let Transformers make calls.

    Args:
        python: The interpreter of its environment.
        requests: What transformers4_calls.py reads.
        folder: Where its files may lie.

    Returns:
        What it writes.
    """
    calls, results = folder / "calls.json", folder / "results.json"
    calls.write_text(json.dumps(requests))
    subprocess.run([python, str(_SCRIPT), str(calls), str(results), "1"], check=True)
    return json.loads(results.read_text())


def main() -> None:
    """Make the checkpoints, let Transformers make the calls, write the results."""
    python, shared = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in CHECKPOINTS:
            write_checkpoint(name, root / name)
        requests = [
            {
                "task": case.task,
                "model": shared if case.checkpoint == "shared" else str(root / case.checkpoint),
                "options": case.options,
                "calls": [{"args": args, "kwargs": kwargs} for args, kwargs in case.calls],
            }
            for case in CASES.values()
        ]
        output = run_requests(python, requests, root)
    golden = {
        "versions": output["versions"],
        "cases": dict(zip(CASES, output["results"], strict=True)),
    }
    GOLDEN_FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
