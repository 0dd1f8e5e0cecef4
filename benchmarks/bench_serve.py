"""The service under load, beside answer_batch of the same questions in the same run.

    python benchmarks/bench_serve.py --data dev-v1.1.json.gz [--phases throughput,poisson,...]

The server is a process of its own (`python -m runtime.serve` with the embedded model). This process
is the client and computes answer_batch while the server is idle. Both are on the same cores.

- throughput: wrk with 32 connections, in turn with answer_batch; CPU time of both for a question,
  and what of it is Python's: HTTP, the queue, tokenizing and decoding.
- poisson: an open loop, arrivals at 0.7 of answer_batch's rate, however slow the answers are.
- overload: an open loop at twice the rate with a deadline of 1 s: what comes in time, what is
  refused and how fast, what is computed for nobody, memory, and answers equal to answer_batch's;
  beside it a process that asks /health twenty times a second: the least that any route takes.
- short: a short question every half second beside 20 clients with lists of 32 questions each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.served import Connection, Server, open_loop, request_bytes
from bert_rt import Runtime
from bert_rt.errors import ConfigError
from bert_rt.support.cli import int_at_least, run_command
from bert_rt.tasks.question_answering.squad import read_squad

Pairs = list[tuple[str, str]]

_CLIENTS = 32
_DEADLINE_MS = 1000
_PHASES = ("throughput", "poisson", "overload", "short")
# Asks a route that computes nothing, by a process that does nothing else; prints its times in ms.
_PROBE = """
import http.client, json, sys, time
connection, times = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1])), []
end_s = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end_s:
    began_s = time.perf_counter()
    connection.request("GET", "/health")
    connection.getresponse().read()
    times.append(1000 * (time.perf_counter() - began_s))
    time.sleep(0.05)
print(json.dumps(times))
"""
_WRK = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local index = 0
request = function()
  index = index %% #bodies + 1
  return wrk.format("POST", "/v1/answer", {["Content-Type"] = "application/json"}, bodies[index])
end
"""


def batch_rate(runtime: Runtime, pairs: Pairs) -> tuple[float, float, float]:
    """Return the questions a second of answer_batch, and CPU ms for one: all, and Python's."""
    began_s, cpu_s, python_s = time.perf_counter(), time.process_time(), time.thread_time()
    runtime.answer_batch(pairs)  # the engine has a thread of its own
    to_ms = 1000 / len(pairs)
    cpu_ms, python_ms = time.process_time() - cpu_s, time.thread_time() - python_s
    rate = len(pairs) / (time.perf_counter() - began_s)
    return rate, to_ms * cpu_ms, to_ms * python_ms


def throughput(server: Server, runtime: Runtime, pairs: Pairs, args: argparse.Namespace) -> None:
    """Measure wrk and answer_batch in turn."""
    rates: dict[str, list[float]] = {"answer_batch": [], "32 clients": []}
    cpu_ms: dict[str, list[float]] = {name: [] for name in rates}
    python_ms: dict[str, list[float]] = {name: [] for name in rates}
    tokens: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        bodies, script = Path(scratch, "bodies"), Path(scratch, "wrk.lua")
        lines = [json.dumps({"question": q, "context": c}) + "\n" for q, c in pairs]
        bodies.write_text("".join(lines))
        script.write_text(_WRK % bodies)
        for _ in range(args.rounds):
            per_s, cpu, python = batch_rate(runtime, pairs)
            rates["answer_batch"].append(per_s)
            cpu_ms["answer_batch"].append(cpu)
            python_ms["answer_batch"].append(python)
            seconds = max(20, round(len(pairs) / per_s))  # what wrk leaves behind counts little
            before, cpu_s, python_s = server.figures(), server.cpu_s(), server.python_s()
            command = ["wrk", "-t1", f"-c{_CLIENTS}", f"-d{seconds}s", "--timeout=30s"]
            command += [f"-s{script}", f"http://127.0.0.1:{server.port}"]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            if "Non-2xx" in shown or "Socket errors" in shown:
                codes = re.findall(
                    r'requests_total.*code="(\d+)".* (.*)', server.get("/metrics")[1]
                )
                raise AssertionError(f"{shown}{[it for it in codes if float(it[1])]}")
            # Whatever wrk left behind is computed before the next round.
            while server.figures()["bert_rt_queue_depth"]:
                time.sleep(0.05)
            used_s, used_python_s = server.cpu_s() - cpu_s, server.python_s() - python_s
            after = server.figures()
            num_answers = after["bert_rt_answers_total"] - before["bert_rt_answers_total"]
            rates["32 clients"].append(float(re.findall(r"Requests/sec:\s+([\d.]+)", shown)[0]))
            cpu_ms["32 clients"].append(1000 * used_s / num_answers)
            python_ms["32 clients"].append(1000 * used_python_s / num_answers)
            num_batches = after["bert_rt_batch_tokens_count"] - before["bert_rt_batch_tokens_count"]
            num_tokens = after["bert_rt_batch_tokens_sum"] - before["bert_rt_batch_tokens_sum"]
            tokens.append(num_tokens / num_batches)
    for name, rate in rates.items():
        print(f"{name}: {spread(rate)} questions/s, {spread(cpu_ms[name])} ms of CPU each")
        print(f"{name}: of it Python {spread(python_ms[name], 2)} ms")
    for name, values in (("rate", rates), ("CPU", cpu_ms)):
        batch, clients = values.values()
        ratios = [b / a for a, b in zip(batch, clients, strict=True)]
        print(f"{name} of 32 clients / answer_batch's: {spread(ratios, 3)}")
    shares = [
        (served - batch) / all_ms
        for batch, served, all_ms in zip(*python_ms.values(), cpu_ms["answer_batch"], strict=True)
    ]
    print(f"HTTP and queue, of the CPU of a question in answer_batch: {spread(shares, 4)}")
    print(f"tokens of a batch: {spread(tokens)}")


def poisson(server: Server, runtime: Runtime, pairs: Pairs, args: argparse.Namespace) -> None:
    """Measure latency at 0.7 of answer_batch's rate."""
    rate = batch_rate(runtime, pairs)[0]
    requests = [request_bytes({"question": q, "context": c}) for q, c in pairs]
    alone = asyncio.run(_one_by_one(server.port, requests[:40]))
    before = server.figures()
    replies = asyncio.run(open_loop(server.port, requests, 0.7 * rate, args.seconds, args.seed))
    assert {reply.status for reply in replies} == {200}
    figures = {name: value - before[name] for name, value in server.figures().items()}
    times = [1000 * reply.latency_s for reply in replies]
    after = batch_rate(runtime, pairs)[0]
    alone_ms = statistics.median(alone) * 1000
    print(f"answer_batch: {rate:.1f} questions/s before, {after:.1f} after")
    print(f"alone: p50 {alone_ms:.1f} ms; {len(times)} arrivals at {0.7 * rate:.1f}/s:")
    print(f"{percentiles(times)}; p99 is {np.percentile(times, 99) / alone_ms:.2f} x alone")
    busy_s = figures["bert_rt_inference_duration_seconds_sum"]
    num_batches = figures["bert_rt_batch_tokens_count"]
    print(f"a batch: {len(times) / num_batches:.2f} requests, {1000 * busy_s / num_batches:.1f} ms")
    print(f"a request: {1000 * busy_s / len(times):.1f} ms of the engine")
    print(f"the engine was busy {busy_s / args.seconds:.3f} of the time")


async def _one_by_one(port: int, requests: Sequence[bytes]) -> list[float]:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    times = []
    for request in requests:
        began_s = time.perf_counter()
        status, _ = await connection.ask(request)
        assert status == 200
        times.append(time.perf_counter() - began_s)
    return times


def overload(server: Server, runtime: Runtime, pairs: Pairs, args: argparse.Namespace) -> None:
    """Measure what is done at twice the capacity."""
    rate = batch_rate(runtime, pairs)[0]
    expected = runtime.answer_batch(pairs)
    fields = [{"question": q, "context": c, "timeout_ms": _DEADLINE_MS} for q, c in pairs]
    before, rss = server.figures(), [server.rss_mib()]
    in_time, refused_ms, statuses = 0, [], Counter[int]()
    probe = [sys.executable, "-c", _PROBE, str(server.port), str(args.seconds)]
    probing = subprocess.Popen(probe, stdout=subprocess.PIPE, text=True)
    began_s = time.perf_counter()
    while (left_s := args.seconds - (time.perf_counter() - began_s)) > 0:
        requests = [request_bytes(value) for value in fields]
        load = open_loop(server.port, requests, 2 * rate, min(30.0, left_s), args.seed)
        for reply in asyncio.run(load):
            statuses[reply.status] += 1
            if reply.status == 429:
                refused_ms.append(1000 * reply.latency_s)
            elif reply.status == 200:
                in_time += reply.latency_s <= _DEADLINE_MS / 1000
                answer, want = json.loads(reply.body)["answers"][0], expected[reply.index]
                got = (answer["text"], answer["start"], answer["end"], answer["score"])
                assert got == (want.text, want.start, want.end, want.score), (got, want)
        rss.append(server.rss_mib())
    seconds = time.perf_counter() - began_s
    figures = {name: value - before[name] for name, value in server.figures().items()}
    after = batch_rate(runtime, pairs)[0]
    windows = figures["bert_rt_windows"]
    print(f"answer_batch: {rate:.1f} questions/s before, {after:.1f} after")
    print(f"{seconds:.0f} s at {2 * rate:.1f} arrivals/s, deadline {_DEADLINE_MS} ms: {statuses}")
    share = in_time / seconds / ((rate + after) / 2)
    print(f"in time: {in_time / seconds:.1f}/s, {share:.3f} of answer_batch; all answers equal")
    print(f"refusals: {percentiles(refused_ms)}")
    print(f"/health: {percentiles(json.loads(probing.communicate()[0]))}")
    print(f"windows: {windows:.0f}, for nobody {figures['bert_rt_windows_unwanted'] / windows:.4f}")
    print(f"memory: {rss[0]:.0f} MiB, then {', '.join(f'{it:.0f}' for it in rss[1:])}")


def short(server: Server, runtime: Runtime, pairs: Pairs, args: argparse.Namespace) -> None:
    """Measure a short question beside 20 bulk clients."""
    waits, times = asyncio.run(_short(server, pairs, args.seconds))
    print(f"{len(times)} short questions beside 20 bulk clients: {percentiles(times)}")
    print(f"batches from its arrival to its answer, its own included: {dict(Counter(waits))}")


async def _short(server: Server, pairs: Pairs, seconds: float) -> tuple[list[int], list[float]]:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds

    async def bulk(number: int) -> None:
        _, connection = await loop.create_connection(Connection, "127.0.0.1", server.port)
        while loop.time() < end_s:
            some = random.Random(number).sample(pairs, 32)
            value: dict[str, Any] = {"timeout_ms": 300_000}
            value |= {"question": [q for q, _ in some], "context": [c for _, c in some]}
            status, body = await connection.ask(request_bytes(value))
            assert status == 200, body

    bulks = [asyncio.create_task(bulk(number)) for number in range(20)]
    await asyncio.sleep(2)
    _, connection = await loop.create_connection(Connection, "127.0.0.1", server.port)
    question = {"question": "Who sat?", "context": "The cat sat on the mat."}
    waits, times = [], []
    while loop.time() < end_s - 2:
        before = server.figures()["bert_rt_batch_tokens_count"]
        began_s = loop.time()
        status, _ = await connection.ask(request_bytes(question))
        times.append(1000 * (loop.time() - began_s))
        waits.append(round(server.figures()["bert_rt_batch_tokens_count"] - before))
        assert status == 200
        await asyncio.sleep(0.5)
    await asyncio.gather(*bulks)
    return waits, times


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Show the median of some values, and the least and the greatest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def percentiles(times_ms: Sequence[float]) -> str:
    """Show percentiles of times in ms."""
    if not times_ms:
        return "none"
    shown = zip((50, 95, 99, 100), np.percentile(times_ms, (50, 95, 99, 100)), strict=True)
    return ", ".join(f"p{at} {value:.1f} ms" for at, value in shown) + f" ({len(times_ms)})"


def main(argv: Sequence[str]) -> None:
    """Run the phases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="F", help="SQuAD, .json or .json.gz")
    parser.add_argument("--phases", default="throughput,poisson,short,overload", metavar="P")
    parser.add_argument("--questions", type=int_at_least(32), default=400, metavar="N")
    parser.add_argument("--rounds", type=int_at_least(1), default=5, metavar="N")
    parser.add_argument("--seconds", type=int_at_least(5), default=60, metavar="N")
    parser.add_argument("--num_threads", type=int_at_least(1), default=2, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--serve_flags", default="", metavar="F", help="more flags of the server")
    args = parser.parse_args(argv)
    phases = args.phases.split(",")
    if unknown := set(phases) - set(_PHASES):
        raise ConfigError(f"--phases: got {min(unknown)!r}, want some of {', '.join(_PHASES)}")
    examples = read_squad(args.data)
    chosen = random.Random(args.seed).sample(range(len(examples)), args.questions)
    pairs = [(examples[index].question, examples[index].context) for index in chosen]
    server = Server(args.num_threads, args.serve_flags.split())
    try:
        with Runtime.load(num_threads=args.num_threads, engine_nice=1) as runtime:
            print(f"{runtime.info.name} ({runtime.info.isa}), {args.num_threads} threads")
            runtime.answer_batch(pairs[:50])
            for name in phases:
                print(f"\n{name}:")
                globals()[name](server, runtime, pairs, args)
                sys.stdout.flush()
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(run_command(main))
