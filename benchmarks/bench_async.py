"""1,000 coroutines beside one answer_batch of the same questions, in turn.

    python benchmarks/bench_async.py --data dev-v1.1.json.gz [--questions 1000] [--rounds 3]

Every round answers the same questions with answer_batch and with asyncio.gather over answer_async,
each first in turn. Reported are the ratio of their rates round by round and the CPU time that each
took, which neighbours on the machine disturb less; answers that differ are an error.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import Answer, Runtime
from bert_rt.support.cli import int_at_least, run_command
from bert_rt.tasks.question_answering.squad import read_squad

Pairs = list[tuple[str, str]]


async def gather(runtime: Runtime, pairs: Pairs) -> list[Answer]:
    """Ask everything at once."""
    return await asyncio.gather(*(runtime.answer_async(*pair) for pair in pairs))


def main(argv: Sequence[str]) -> None:
    """Time both ways and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="F", help="SQuAD, .json or .json.gz")
    parser.add_argument("--questions", type=int_at_least(1), default=1000, metavar="N")
    parser.add_argument("--rounds", type=int_at_least(1), default=3, metavar="N")
    parser.add_argument("--num_threads", type=int_at_least(1), default=2, metavar="N")
    args = parser.parse_args(argv)
    examples = read_squad(args.data)[: args.questions]
    pairs = [(example.question, example.context) for example in examples]
    with Runtime.load(num_threads=args.num_threads) as runtime:
        ways = {
            "answer_batch": runtime.answer_batch,
            "answer_async": lambda pairs: asyncio.run(gather(runtime, pairs)),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        cpu_s: dict[str, list[float]] = {name: [] for name in ways}
        runtime.answer_batch(pairs[:50])
        for turn in range(args.rounds):
            results = {}
            for name in list(ways)[:: 1 if turn % 2 else -1]:
                begin, cpu_begin = time.perf_counter(), time.process_time()
                results[name] = ways[name](pairs)
                cpu_s[name].append(time.process_time() - cpu_begin)
                rates[name].append(len(pairs) / (time.perf_counter() - begin))
            assert results["answer_batch"] == results["answer_async"], "the answers differ"
        print(f"{runtime.info.name} ({runtime.info.isa}), {args.num_threads} threads")
    for name, values in rates.items():
        ms = 1000 * statistics.median(cpu_s[name]) / len(pairs)
        print(f"{name}: {statistics.median(values):.1f} questions/s, {ms:.2f} ms of CPU each")
    ratios = [a / b for a, b in zip(rates["answer_async"], rates["answer_batch"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"answer_async / answer_batch: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    sys.exit(run_command(main))
