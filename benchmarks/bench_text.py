"""What a question costs beside the engine: tokenization, windows, decoding.

    python benchmarks/bench_text.py --data dev-v1.1.json.gz [--limit 500] [--num_threads 2]

Every question goes through the whole path alone, its passage unknown, as a service sees it; each
step is timed by itself. The tokenizer is timed twice, with the native module and by the library
alone, on the same texts, either one first in turn, since the first one finds caches that the engine
has filled. Printed are medians in microseconds, with quartiles; machines differ, so compare shares.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import Runtime
from bert_rt.artifact.artifact import TOKENIZER_NAME, default_artifact_path
from bert_rt.errors import InputError
from bert_rt.support.cli import int_at_least, run_command
from bert_rt.tasks.question_answering.answering import PreparedQuestion, QuestionAnswering
from bert_rt.tasks.question_answering.features import make_features
from bert_rt.tasks.question_answering.squad import read_squad
from bert_rt.tasks.session import Session
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import Encoding, Question

ResultT = TypeVar("ResultT")

TASK = QuestionAnswering()


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


def tokenize(tokenizer: Tokenizer, question: Question) -> tuple[Encoding, Encoding]:
    """Encode both texts."""
    return tokenizer.encode(question.question), tokenizer.encode(question.context)


def cut(tokenizer: Tokenizer, question: Encoding, context: Encoding, limits: Any) -> Any:
    """Cut a context into windows."""
    ids = {name: getattr(tokenizer, name) for name in ("cls_id", "sep_id", "num_separators")}
    return make_features(0, question, context, config=limits, **ids)


def measure(session: Session, library: Tokenizer, questions: list[Question], options: Any) -> Steps:
    """Take every question through the whole path, alone."""
    steps = Steps()
    ways = [("tokenize", session.tokenizer), ("tokenize, library alone", library)]
    for question in questions:
        for name, tokenizer in ways:
            encodings = steps.time(name, tokenize, tokenizer, question)
        ways.reverse()
        windows = steps.time("windows", cut, session.tokenizer, *encodings, options.limits)
        prepared = PreparedQuestion(question, encodings[1], windows)
        (logits,) = steps.time("engine and batching", session.compute, [prepared], options)
        steps.time("decode", TASK.decode, prepared, logits, options)
    return steps


def main(argv: Sequence[str]) -> None:
    """Time every step and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--artifact", type=Path, default=default_artifact_path())
    parser.add_argument("--limit", type=int_at_least(2), default=500)
    parser.add_argument("--num_threads", type=int_at_least(1), default=2)
    args = parser.parse_args(argv)
    examples = read_squad(args.data)
    if len(examples) < 2:
        raise InputError(f"--data: got {len(examples)} questions, want at least 2")
    examples = examples[:: max(1, len(examples) // args.limit)][: args.limit]
    questions = [TASK.check_input((example.question, example.context)) for example in examples]
    with Runtime.load(args.artifact, num_threads=args.num_threads) as runtime:
        library = Tokenizer.from_bytes((args.artifact / TOKENIZER_NAME).read_bytes())
        library._native = None
        steps = measure(runtime.session, library, questions, runtime.options())
        print(f"{runtime.info.name}, {args.num_threads} threads, {len(examples)} questions")
    medians = {name: statistics.median(times) for name, times in steps.times.items()}
    for name, times in sorted(steps.times.items()):
        low, _, high = statistics.quantiles(times, n=4)
        share = medians[name] / medians["engine and batching"]
        print(
            f"{name:24} {medians[name]:8.0f} us ({low:.0f} to {high:.0f})"
            f"  {100 * share:5.1f} % of the engine"
        )
    ratio = medians["tokenize, library alone"] / medians["tokenize"]
    print(f"library / native tokenizer: {ratio:.1f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
