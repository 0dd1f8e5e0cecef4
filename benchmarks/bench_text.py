"""What a question costs beside the engine: tokenization, windows, decoding.

    python benchmarks/bench_text.py --data dev-v1.1.json.gz [--limit 500] [--num_threads 2]

Every question goes through the whole path alone, its passage unknown, as a service sees it; each
step is timed by itself. The tokenizer is timed twice, with the native module and by the library
alone, in turn on the same texts. Printed are medians in microseconds, with quartiles, and ratios
of the medians; machines differ, so compare shares.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import Runtime
from bert_rt.artifact import TOKENIZER_NAME, default_artifact_path
from bert_rt.cli import int_at_least
from bert_rt.session import check_pair, pick_answer
from bert_rt.squad import read_squad
from bert_rt.tokenization import Tokenizer

ResultT = TypeVar("ResultT")


class Steps:
    """Times of every step, in microseconds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def time(self, name: str, step: Callable[..., ResultT], *args: Any) -> ResultT:
        """Do one step and keep how long it took."""
        begin = time.perf_counter()
        result = step(*args)
        self.times.setdefault(name, []).append(1e6 * (time.perf_counter() - begin))
        return result


def main() -> None:
    """Time every step and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--artifact", type=Path, help="left out: the embedded default")
    parser.add_argument("--limit", type=int_at_least(1), default=500)
    parser.add_argument("--num_threads", type=int_at_least(1), default=2)
    args = parser.parse_args()
    examples = read_squad(args.data)
    examples = examples[:: max(1, len(examples) // args.limit)][: args.limit]
    artifact = args.artifact or default_artifact_path()
    library = Tokenizer.from_bytes((artifact / TOKENIZER_NAME).read_bytes())
    library._native = None
    steps = Steps()
    with Runtime.load(args.artifact, num_threads=args.num_threads) as runtime:
        session, options = runtime.session, runtime.options()
        print(f"{runtime.info.name}, {args.num_threads} threads, {len(examples)} questions")
        for example in examples:
            question = check_pair((example.question, example.context))
            texts = (question.question, question.context)
            steps.time("tokenize, library alone", lambda t: [library.encode(x) for x in t], texts)
            encodings = steps.time(
                "tokenize", lambda t: [session.tokenizer.encode(x) for x in t], texts
            )
            prepared = steps.time("windows", session._cut, question, *encodings, options.config)
            (logits,) = steps.time("engine and batching", session.compute, [prepared], options)
            steps.time("decode", pick_answer, prepared, logits, options)
    medians = {name: statistics.median(times) for name, times in steps.times.items()}
    for name, times in steps.times.items():
        low, _, high = statistics.quantiles(times, n=4)
        share = medians[name] / medians["engine and batching"]
        print(
            f"{name:24} {medians[name]:8.0f} us ({low:.0f} to {high:.0f})"
            f"  {100 * share:5.1f} % of the engine"
        )
    ratio = medians["tokenize, library alone"] / medians["tokenize"]
    print(f"library / native tokenizer: {ratio:.1f}")


if __name__ == "__main__":
    main()
