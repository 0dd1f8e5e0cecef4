"""Two or more builds of the native module in turn on the same inputs: which one is faster.

    python benchmarks/compare_builds.py BEFORE.so AFTER.so --data dev-v1.1.json.gz [--isa amx_int8]
    python benchmarks/compare_builds.py BEFORE.so AFTER.so --data dev.tsv.gz --model classifier.onnx
    python benchmarks/compare_builds.py NOW.so NOW.so --isa avx2 --isa avx512bw --data dev.json

Questions are packed as the scheduler packs them; with --all_logits every token's logits are asked
for, not only those that answers are made of. Builds that cannot leave logits out compute all.

With --alone each question is a batch of its own. --isa given once for each build compares
instruction sets.

Every build computes in a process of its own; each batch goes through all of them, one after the
other, before the next batch does, so that what slows the machine down for a while slows all of them
down. Reported are ratios to the first build, batch by batch: median and quartiles; and whether all
logits that are read were equal. Build with cmake (see CMakePresets.json) and copy _native*.so from
its folder.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt.artifact.artifact import Artifact, default_artifact_path, load_artifact
from bert_rt.engines.packing import pack, plan_batches
from bert_rt.support.cli import int_at_least, run_command
from bert_rt.tasks.registry import task_of_artifact
from bert_rt.tasks.text_classification.labelled import read_labelled
from bert_rt.tasks.text_classification.sequences import make_sequences
from bert_rt.text.tokenization import Tokenizer
from bert_rt.types import PackedBatch, TokenSequence
from runtime.bench.workload import read_workload

QUESTIONS = 400
_ASKED_BEFORE = 6  # so often before a timer starts, where passages are kept


def serve(channel: Connection, module: Path, model: bytes, settings: dict[str, Any]) -> None:
    """Load one build and run the batches that come: seconds and a hash of the logits of each."""
    spec = importlib.util.spec_from_file_location("bert_rt._native", module)
    assert spec is not None
    assert spec.loader is not None
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    engine = native.Engine(model, **settings)
    channel.send(engine.info()["isa"])
    takes_ranges = "logit_ranges" in native.Engine.run.__doc__
    while (batch := channel.recv()) is not None:
        arguments = [batch.input_ids, batch.token_type_ids, batch.cu_seqlens]
        if takes_ranges:
            arguments.append(batch.logit_ranges)
        start_s = time.perf_counter()
        logits = engine.run(*arguments)
        seconds = time.perf_counter() - start_s
        if isinstance(logits, tuple) and batch.logit_ranges is not None:
            rows = read_rows(batch)
            logits = tuple(array[rows] for array in logits)
        channel.send((seconds, hashlib.sha256(b"".join(x.tobytes() for x in logits)).digest()))


def read_rows(batch: PackedBatch) -> list[int]:
    """Tokens of a batch whose logits are read."""
    assert batch.logit_ranges is not None
    starts = batch.cu_seqlens[:-1].tolist()
    return [
        start + token
        for start, (begin, end) in zip(starts, batch.logit_ranges.tolist(), strict=True)
        for token in sorted({0, *range(begin, end)})
    ]


def measure(
    channels: list[Any],
    batches: list[PackedBatch],
    num_batches: int,
    pause_s: float,
    num_warm_up: int,
) -> tuple[list[list[float]], int]:
    """Send batches around: seconds by build, and the number of batches with unequal logits."""
    seconds: list[list[float]] = [[] for _ in channels]
    unequal = 0
    for turn in range(-num_warm_up, num_batches):
        hashes = set()
        for offset in range(len(channels)):
            index = (turn + offset) % len(channels)
            time.sleep(pause_s)
            channels[index].send(batches[turn % len(batches)])
            took, digest = channels[index].recv()
            hashes.add(digest)
            if turn >= 0:
                seconds[index].append(took)
        unequal += len(hashes) > 1
    return seconds, unequal


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line, and refuse modules that are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="+", type=Path, metavar="SO", help="builds of _native")
    parser.add_argument(
        "--data", required=True, metavar="F", help="SQuAD (.json), or texts (.tsv, .csv or .jsonl)"
    )
    parser.add_argument("--artifact", type=Path, default=default_artifact_path(), metavar="ART")
    parser.add_argument("--model", type=Path, metavar="ONNX", help="instead of the artifact's")
    parser.add_argument("--all_logits", action="store_true", help="those that nobody reads too")
    parser.add_argument("--alone", action="store_true", help="each window or text is a batch")
    parser.add_argument(
        "--pause_ms",
        type=int_at_least(0),
        default=0,
        metavar="N",
        help="before each batch, as a server idles",
    )
    parser.add_argument(
        "--isa",
        action="append",
        default=[],
        metavar="I",
        help="forced instruction set: of all builds, or once for each of them in their order",
    )
    parser.add_argument("--num_threads", type=int_at_least(1), default=1, metavar="N")
    parser.add_argument(
        "--max_context_cache_mb",
        type=int_at_least(1),
        metavar="N",
        help="for an artifact with split layers: all passages are kept before a timer starts",
    )
    parser.add_argument("--batches", type=int_at_least(2), default=250, metavar="N")
    parser.add_argument("--max_tokens", type=int_at_least(512), default=1024, metavar="N")
    args = parser.parse_args(argv)
    for module in args.modules:
        if not module.is_file():
            parser.error(f"SO: got {str(module)!r}, want a file")
    if len(args.isa) not in {0, 1, len(args.modules)}:
        parser.error(f"--isa: got {len(args.isa)} of them, want 1 or {len(args.modules)}")
    args.isa = args.isa or [""]
    if len(args.isa) == 1:
        args.isa *= len(args.modules)
    return args


def make_batches(artifact: Artifact, args: argparse.Namespace) -> list[PackedBatch]:
    """Read the data, and pack its windows or texts as the scheduler does."""
    tokenizer = Tokenizer.from_bytes(artifact.read("tokenizer.json"))
    limits = task_of_artifact(artifact.manifest.task).read_limits(artifact.manifest)
    sequences: list[TokenSequence]
    if args.data.removesuffix(".gz").endswith(".json"):
        work = read_workload(args.data, tokenizer, limits, limit=QUESTIONS, seed=0)
        sequences = list(work.features)
    else:
        texts = [item.input for item in read_labelled(args.data)]
        length = limits.max_seq_length
        sequences = list(make_sequences(texts, tokenizer, max_seq_length=length))
    lengths = [sequence.num_tokens for sequence in sequences]
    plan = [[i] for i in range(len(lengths))]
    if not args.alone:
        plan = plan_batches(lengths, max_tokens=args.max_tokens, is_packed=True)
    return [
        pack([sequences[i] for i in batch], max_tokens=args.max_tokens, is_all_read=args.all_logits)
        for batch in plan
    ]


def main(argv: Sequence[str]) -> None:
    """Print one line a build."""
    args = parse(argv)
    artifact = load_artifact(args.artifact)
    if args.max_context_cache_mb and not artifact.manifest.architecture.num_split_layers:
        sys.exit(
            f"error: --max_context_cache_mb: {args.artifact} has no split layers, want one with"
        )
    model = args.model.read_bytes() if args.model else artifact.read("model.onnx")
    batches = make_batches(artifact, args)
    context = multiprocessing.get_context("spawn")
    channels = []
    for module, isa in zip(args.modules, args.isa, strict=True):
        ours, theirs = context.Pipe()
        settings = {"num_threads": args.num_threads, "isa": isa}
        if args.max_context_cache_mb:
            settings["max_context_cache_mb"] = args.max_context_cache_mb
        arguments = (theirs, module, model, settings)
        context.Process(target=serve, args=arguments, daemon=True).start()
        theirs.close()  # so that a build that ends is noticed
        channels.append(ours)
    try:
        isas = [channel.recv() for channel in channels]
        num_warm_up = _ASKED_BEFORE * len(batches) if args.max_context_cache_mb else 1
        seconds, unequal = measure(
            channels, batches, args.batches, args.pause_ms / 1000, num_warm_up
        )
    except (EOFError, BrokenPipeError):
        sys.exit("error: a build ended; what it wrote stands above")
    for channel in channels:
        channel.send(None)
    for module, isa, took in zip(args.modules, isas, seconds, strict=True):
        ratios = [first / own for first, own in zip(seconds[0], took, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        print(
            f"{module} ({isa}): {median:.3f} times as fast as the first ({low:.3f} to {high:.3f})"
        )
    print(f"{args.batches} batches, {args.num_threads} threads; unequal logits in {unequal}")


if __name__ == "__main__":
    sys.exit(run_command(main))
