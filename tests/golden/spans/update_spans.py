"""Writes spans.json anew: what Transformers 4.57 returns for the calls of span_cases.py.

    python -m tests.golden.spans.update_spans PYTHON

PYTHON is that of an environment with `pip install torch==2.13.0 'transformers==4.57.*'`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.golden.pipeline.update_pipeline import run_requests
from tests.golden.spans.span_cases import GOLDEN_FILE, KINDS, make_calls, write_kind


def _short(result: Any) -> list[list[Any]]:
    """Return the [score, start, end] of answers; those of probability 0 are fillers."""
    answers = result if isinstance(result, list) else [result]
    return [[round(a["score"], 6), a["start"], a["end"]] for a in answers if a["score"] > 0]


def main() -> None:
    """Make the checkpoints, let Transformers make the calls, write the results."""
    (python,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in KINDS:
            write_kind(name, root / name)
        requests = [
            {
                "task": "question-answering",
                "model": str(root / name),
                "options": {},
                "calls": [{"args": [], "kwargs": call} for call in make_calls(name)],
            }
            for name in KINDS
        ]
        output = run_requests(python, requests, root)
    lines = [f' "versions": {json.dumps(output["versions"], sort_keys=True)}']
    for name, results in zip(KINDS, output["results"], strict=True):
        calls = ",\n".join(json.dumps(_short(result), separators=(",", ":")) for result in results)
        lines.append(f' "{name}": [\n{calls}\n ]')
    GOLDEN_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
