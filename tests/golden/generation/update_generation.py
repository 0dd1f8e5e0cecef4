"""Writes generation.json anew: what Transformers 4.57 writes in the cases of generation_cases.py.

    python -m tests.golden.generation.update_generation PYTHON

PYTHON is that of an environment with `pip install torch==2.13.0 'transformers==4.57.*'`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden.generation.generation_cases import GOLDEN_FILE


def main() -> None:
    """Let Transformers generate, write what it wrote."""
    (python,) = sys.argv[1:]
    root = Path(__file__).parents[3]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output.json")
        command = [python, "-m", "tests.golden.generation.transformers_generate", str(output)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(root)}, cwd=root)
        values = json.loads(output.read_text())
    lines = [f' "versions": {json.dumps(values["versions"], sort_keys=True)}']
    lines.append(f' "tried": {values["tried"]}')
    results = []
    for index, targets, scores in values["results"]:
        rounded = [[round(score, 5) for score in group] for group in scores]
        results.append(json.dumps([index, targets, rounded], separators=(",", ":")))
    lines.append(' "results": [\n' + ",\n".join(results) + "\n ]")
    GOLDEN_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
