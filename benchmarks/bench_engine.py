"""Native engine against OpenVINO and ONNX Runtime on the same INT8 model, engine time only.

    python benchmarks/bench_engine.py --model ARTIFACT_OR_ONNX [--num_threads 2] [--json FILE]

All configurations take turns in one run over the same questions' lengths (SQuAD v1.1 dev,
benchmarks/shapes/squad_lengths.txt) with random tokens. The native engine gets them as they come,
packed; a peer gets its best treatment: batches sorted by length, of 1 and of 8, with 1 and 2
streams. Ratios are medians over rounds, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt import _native

Runner = Callable[[], None]
VOCAB = 20000


def read_lengths(limit: int) -> list[int]:
    """Token counts of the first questions of the list."""
    text = (Path(__file__).parent / "shapes" / "squad_lengths.txt").read_text()
    lengths = [int(line) for line in text.splitlines() if line and not line.startswith("#")]
    return lengths[:limit]


def read_model(path: Path) -> bytes:
    """The bytes of an ONNX file or of an artifact's."""
    return (path / "model.onnx" if path.is_dir() else path).read_bytes()


class Stream:
    """Questions of given lengths with random tokens."""

    def __init__(self, lengths: list[int], max_length: int) -> None:
        rng = np.random.default_rng(0)
        self.lengths = [min(n, max_length) for n in lengths]
        self.ids = [rng.integers(1000, VOCAB, n).astype(np.int32) for n in self.lengths]

    def packed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All of them in one packed batch."""
        ids = np.concatenate(self.ids)
        cu = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32)
        return ids, np.zeros_like(ids), cu

    def padded(self, batch: int) -> list[dict[str, np.ndarray]]:
        """Batches of like lengths, as ONNX engines take them."""
        order = np.argsort(self.lengths, kind="stable") if batch > 1 else range(len(self.ids))
        order = list(order)
        feeds = []
        for start in range(0, len(order), batch):
            members = [self.ids[i] for i in order[start : start + batch]]
            shape = (len(members), max(len(m) for m in members))
            names = ("input_ids", "attention_mask", "token_type_ids")
            feed = {n: np.zeros(shape, np.int64) for n in names}
            for row, ids in enumerate(members):
                feed["input_ids"][row, : len(ids)] = ids
                feed["attention_mask"][row, : len(ids)] = 1
            feeds.append(feed)
        return feeds


def native_runners(
    model: bytes, stream: Stream, threads: int, isas: list[str]
) -> dict[str, Runner]:
    """One runner an instruction set: the whole stream in one call."""
    packed = stream.packed()
    runners: dict[str, Runner] = {}
    for isa in isas:
        engine = _native.Engine(model, num_threads=threads, isa=isa)
        runners[f"native {isa}"] = lambda e=engine: e.run(*packed)
    return runners


def openvino_runners(model: bytes, stream: Stream, threads: int) -> dict[str, Runner]:
    """Both precision hints, batches of 1 and 8, 1 stream and one a thread."""
    try:
        import openvino
    except ImportError:
        return {}
    core = openvino.Core()
    runners: dict[str, Runner] = {}
    for hint in ("f32", "bf16"):
        for streams in (1, threads):
            compiled = core.compile_model(
                core.read_model(model),
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": streams,
                    "INFERENCE_PRECISION_HINT": hint,
                },
            )
            for batch in (1, 8):
                feeds = stream.padded(batch)

                def run(
                    compiled: Any = compiled, feeds: Any = feeds, streams: int = streams
                ) -> None:
                    queue = openvino.AsyncInferQueue(compiled, streams)
                    for feed in feeds:
                        queue.start_async(feed)
                    queue.wait_all()

                runners[f"openvino {hint} b{batch} s{streams}"] = run
    return runners


def onnxruntime_runners(model: bytes, stream: Stream, threads: int) -> dict[str, Runner]:
    """Batches of 1 and 8."""
    try:
        import onnxruntime
    except ImportError:
        return {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    runners: dict[str, Runner] = {}
    for batch in (1, 8):
        feeds = stream.padded(batch)

        def run(feeds: Any = feeds) -> None:
            for feed in feeds:
                session.run(None, feed)

        runners[f"onnxruntime b{batch}"] = run
    return runners


def take_turns(runners: dict[str, Runner], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round; a round runs each of them once."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for name in runners:
        runners[name]()
    for _ in range(rounds):
        for name, run in runners.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def single_requests(
    model: bytes, lengths: list[int], threads: int, isas: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Latency of one request at a time, in milliseconds, over the lengths."""
    import openvino

    stream = Stream(lengths, 384)
    feeds = stream.padded(1)
    calls: dict[str, Callable[[int], Any]] = {}
    zeros = [np.zeros_like(i) for i in stream.ids]
    cus = [np.array([0, len(i)], np.int32) for i in stream.ids]
    for isa in isas:
        engine = _native.Engine(model, num_threads=threads, isa=isa)
        calls[f"native {isa}"] = lambda i, e=engine: e.run(stream.ids[i], zeros[i], cus[i])
    for hint in ("f32", "bf16"):
        request = (
            openvino.Core()
            .compile_model(
                openvino.Core().read_model(model),
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": threads,
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": hint,
                },
            )
            .create_infer_request()
        )
        calls[f"openvino {hint}"] = lambda i, r=request: r.infer(feeds[i])
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for i in range(len(lengths)):
            for name, call in calls.items():
                begin = time.perf_counter()
                call(i)
                if turn:
                    times[name].append((time.perf_counter() - begin) * 1e3)
    return {
        name: {f"p{p}_ms": float(np.percentile(values, p)) for p in (50, 95, 99)}
        for name, values in times.items()
    }


def ratio(over: list[float], under: list[float]) -> dict[str, float]:
    """Median, least and greatest of round by round ratios."""
    values = np.array(over) / np.array(under)
    return {
        "median": float(np.median(values)),
        "low": float(values.min()),
        "high": float(values.max()),
    }


def operations_per_sequence(info: dict[str, Any], lengths: list[int]) -> float:
    """Operations (two a multiply-add) of an average sequence, attention included."""
    d, f, layers = info["hidden_size"], info["intermediate_size"], info["num_hidden_layers"]
    per_length = [2 * n * (4 * d * d + 2 * d * f) + 4 * n * n * d for n in lengths]
    return float(layers * np.mean(per_length))


def main() -> None:
    """Run all configurations and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--isa", default=",".join(_native.supported_isas()[:2]))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = read_model(options.model)
    isas = options.isa.split(",")
    stream = Stream(read_lengths(options.questions), 384)
    native = native_runners(model, stream, options.num_threads, isas)
    native |= {f"{k} 1 thread": v for k, v in native_runners(model, stream, 1, isas).items()}
    peers = openvino_runners(model, stream, options.num_threads)
    peers |= onnxruntime_runners(model, stream, options.num_threads)
    seconds = take_turns(native | peers, options.rounds)
    count = len(stream.ids)
    info = _native.Engine(model, num_threads=1).info()
    operations = operations_per_sequence(info, stream.lengths)
    result: dict[str, Any] = {
        "machine": {"processor": platform.processor(), "features": _native.cpu_features()},
        "build": _native.build_info(),
        "questions": count,
        "num_threads": options.num_threads,
        "scope": "engine (no tokenization, no span decoding)",
        "sequences_per_second": {n: count / float(np.median(s)) for n, s in seconds.items()},
        "ratios": {},
        "share_of_peak": {},
    }
    for name in peers:
        for isa in isas:
            key = f"native {isa} / {name}"
            result["ratios"][key] = ratio(seconds[name], seconds[f"native {isa}"])
    for isa in isas:
        both = ratio(seconds[f"native {isa} 1 thread"], seconds[f"native {isa}"])
        result["ratios"][f"native {isa}: {options.num_threads} threads / 1"] = both
        peak = _native.measure_peak(isa) * options.num_threads
        speed = result["sequences_per_second"][f"native {isa}"] * operations
        result["share_of_peak"][isa] = speed / peak
    if peers:
        result["latency"] = single_requests(
            model, read_lengths(60), options.num_threads, isas, options.rounds
        )
    for part, values in result.items():
        print(f"== {part}")
        for line in values.items() if isinstance(values, dict) else [("", values)]:
            print("  ", *line)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
