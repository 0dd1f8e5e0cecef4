"""Writes tokens.json anew: what Transformers 4.57 returns for the calls of token_cases.py.

    python -m tests.golden.tokens.update_tokens PYTHON

PYTHON is that of an environment with `pip install torch==2.13.0 'transformers==4.57.*'`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.golden.pipeline.update_pipeline import run_requests
from tests.golden.tokens.token_cases import CASES, CHECKPOINTS, GOLDEN_FILE, write_checkpoint


def main() -> None:
    """Make the checkpoints, let Transformers make the calls, write the results."""
    (python,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in CHECKPOINTS:
            write_checkpoint(name, root / name)
        requests = [
            {
                "task": case.task,
                "model": str(root / case.checkpoint),
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
    GOLDEN_FILE.write_text(json.dumps(golden, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
