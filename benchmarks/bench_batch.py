"""bert-rt batch against Runtime.answer_batch on the same rows, turn by turn, in one process.

    python -m benchmarks.bench_batch --data ../shared/data/squad/dev-v1.1.json.gz --limit 3000

Every slice of the rows is answered by both, the first one alternately. Then a file is run several
times over, for the growth of resident memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bert_rt.api import Runtime
from bert_rt.support.cli import int_at_least, make_parser, run_command
from bert_rt.tasks.question_answering.squad import SquadExample, read_squad
from runtime.batch import __main__ as command
from tests.support.memory import resident_mib


def main(argv: Sequence[str]) -> int:
    parser = make_parser("benchmarks.bench_batch", "Measure batch against answer_batch.")
    parser.add_argument("--data", required=True, metavar="F")
    parser.add_argument("--artifact", metavar="DIR", help="left out: the embedded model")
    parser.add_argument("--limit", type=int_at_least(1), metavar="N")
    parser.add_argument("--slice", type=int_at_least(1), default=512, metavar="N")
    parser.add_argument("--passes", type=int_at_least(2), default=10, metavar="N")
    parser.add_argument("--pass_rows", type=int_at_least(1), default=200, metavar="N")
    args = parser.parse_args(argv)
    examples = read_squad(args.data)[: args.limit]
    # The command's own runtime, so that both sides compute on the same engine and threads.
    runtime = Runtime.load(args.artifact, num_threads=os.cpu_count())
    command.load_runtime = lambda _: _Shared(runtime)  # type: ignore[assignment,return-value]
    with TemporaryDirectory() as folder:
        ratios, cpu_ratios, resident = [], [], []
        total = {"batch": 0.0, "answer_batch": 0.0}
        for start in range(0, len(examples), args.slice):
            part = examples[start : start + args.slice]
            place = Path(folder) / f"{start}"
            place.mkdir()
            source = _write(place / "in.jsonl", part)
            seconds, cpu = {}, {}
            sides = ("batch", "answer_batch")
            for side in sides if start // args.slice % 2 else sides[::-1]:
                begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
                if side == "batch":
                    _batch([source], place / "out.jsonl")
                else:
                    answers = runtime.answer_batch([(e.question, e.context) for e in part])
                seconds[side] = time.perf_counter() - begin_s
                cpu[side] = time.process_time() - begin_cpu_s
                total[side] += seconds[side]
            rows = [json.loads(line) for line in (place / "out.jsonl").open()]
            assert [row["text"] for row in rows] == [answer.text for answer in answers]
            assert [row["score"] for row in rows] == [answer.score for answer in answers]
            ratios.append(seconds["answer_batch"] / seconds["batch"])
            resident.append(resident_mib())
            cpu_ratios.append(cpu["answer_batch"] / cpu["batch"])
        rate = {side: len(examples) / value for side, value in total.items()}
        print(f"{len(examples)} rows in slices of {args.slice}, equal answers and scores")
        print(f"batch {rate['batch']:.2f} rows/s, answer_batch {rate['answer_batch']:.2f} rows/s")
        print(f"ratio of rates {rate['batch'] / rate['answer_batch']:.4f}")
        for name, values in (("seconds", ratios), ("CPU seconds", cpu_ratios)):
            print(
                f"ratio by {name}, of slices: median {statistics.median(values):.4f}, "
                f"least {min(values):.4f}, greatest {max(values):.4f}"
            )
        shown = " ".join(f"{value:.1f}" for value in resident)
        print(f"resident MiB after each slice: {shown}")
        _memory(Path(folder), examples[: args.pass_rows], args.passes)
    return 0


def _memory(folder: Path, examples: Sequence[SquadExample], passes: int) -> None:
    source = _write(folder / "pass.jsonl", examples)
    figures = []
    for number in range(passes):
        _batch([source], folder / f"pass-{number}.jsonl")
        figures.append(resident_mib())
    shown = " ".join(f"{value:.1f}" for value in figures)
    print(f"resident MiB after each of {passes} passes of {len(examples)} rows: {shown}")
    print(f"growth after the first: {figures[-1] - figures[0]:.1f} MiB")


class _Shared(contextlib.nullcontext[Runtime]):
    """Lends a runtime that stays open."""


def _write(path: Path, examples: Sequence[SquadExample]) -> Path:
    with path.open("w") as file:
        for example in examples:
            row = {"id": example.id, "question": example.question, "context": example.context}
            file.write(json.dumps(row) + "\n")
    return path


def _batch(sources: Sequence[Path], output: Path) -> None:
    argv = ["--input", *map(str, sources), "--output", str(output)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run_command(command.main, argv)
    assert code == 0


if __name__ == "__main__":
    sys.exit(run_command(main))
