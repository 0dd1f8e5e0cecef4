"""How soon a fresh process has its first answer, beside what ONNX Runtime needs to open the model.

    python benchmarks/bench_startup.py [--rounds 15] [--json FILE]

Both are whole processes, started in turn: one imports bert_rt, loads, verifies, packs and
self-tests the embedded model and answers a question; the other imports onnxruntime and opens a
session on the same model.onnx. What is reported is the ratio, round by round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

from bert_rt.artifact.artifact import default_artifact_path

ANSWER = """
from bert_rt import Runtime
context = "Karl von Frisch decoded the waggle dance of bees in the 1920s."
answer = Runtime.load(num_threads={threads}).answer(question="Who decoded it?", context=context)
assert answer.text == "Karl von Frisch", answer
"""
SESSION = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
onnxruntime.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
"""


def seconds(code: str) -> float:
    """Time a process that runs some code, from start to end."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start_s


def main() -> None:
    """Run both sides in turn and print medians and the ratio with its spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--json")
    args = parser.parse_args()
    model = str(default_artifact_path() / "model.onnx")
    answer = ANSWER.format(threads=args.num_threads)
    session = SESSION.format(threads=args.num_threads, model=model)
    seconds(answer), seconds(session)  # the disk's cache
    rounds = [(seconds(answer), seconds(session)) for _ in range(args.rounds)]
    ratios = [ours / theirs for ours, theirs in rounds]
    result = {
        "first_answer_s": statistics.median(ours for ours, _ in rounds),
        "onnxruntime_session_s": statistics.median(theirs for _, theirs in rounds),
        "ratio": {
            "median": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
        },
    }
    print(json.dumps(result, indent=2))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
