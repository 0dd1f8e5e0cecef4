"""Writes checkpoints.json anew: what Transformers 4.57 makes of the cases of checkpoint_cases.py.

    python -m tests.golden.checkpoints.update_checkpoints PYTHON

PYTHON is that of an environment with `pip install torch==2.13.0 'transformers==4.57.*'`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.golden.checkpoints.checkpoint_cases import CASES, GOLDEN_FILE, call_of, write_case
from tests.golden.pipeline.update_pipeline import run_requests


def main() -> None:
    """Make the checkpoints, let Transformers make a call of each, write the results."""
    (python,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        requests = []
        for number, (name, case) in enumerate(CASES.items()):
            directory = Path(folder) / str(number)
            write_case(name, directory)
            call = {"args": (), "kwargs": call_of(case)}
            requests.append(
                {"task": case.task, "model": str(directory), "options": {}, "calls": [call]}
            )
        output = run_requests(python, requests, Path(folder))
    golden = {
        "versions": output["versions"],
        "cases": {name: result for name, (result,) in zip(CASES, output["results"], strict=True)},
    }
    GOLDEN_FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
