"""Makes pipeline calls in Transformers 4.x and writes down what they return.

    PYTHON benchmarks/transformers4_calls.py CALLS.json RESULTS.json [NUM_THREADS]

PYTHON is that of an environment of its own, in which there is no bert-rt: compare_pipeline.py and
tests/golden/pipeline/update_pipeline.py start it. CALLS is a list of {"task", "model", "options",
"calls": [{"args", "kwargs"}, ...]}; RESULTS has a list of results for each, the seconds they took
together, and the versions.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers


def run(request: dict[str, Any], num_threads: int | None) -> tuple[list[Any], float]:
    """Make one pipeline and all its calls."""
    pipe = transformers.pipeline(
        request["task"], model=request["model"], device="cpu", **request["options"]
    )
    if num_threads:
        torch.set_num_threads(num_threads)
    start_s = time.perf_counter()
    results = [pipe(*call["args"], **call["kwargs"]) for call in request["calls"]]
    return results, time.perf_counter() - start_s


def main() -> None:
    """Read the calls, make them, write the results."""
    calls, results, *rest = sys.argv[1:]
    num_threads = int(rest[0]) if rest else None
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    requests = json.loads(Path(calls).read_text())
    done = [run(request, num_threads) for request in requests]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    output = {
        "versions": versions,
        "results": [values for values, _ in done],
        "seconds": [seconds for _, seconds in done],
    }
    # Numbers of NumPy, which some pipelines return, become numbers of JSON.
    Path(results).write_text(json.dumps(output, default=lambda value: value.item()))


if __name__ == "__main__":
    main()
