"""One server with batches under Poisson arrivals, without any noise: what latency its load allows.

    python benchmarks/simulate_queue.py --rate 22.3 --batched_ms 31.3 --alone_ms 46.8 [--streams 2]

First come, first served; a batch takes what waits, up to --max_batch_ms. A request of average
length takes --alone_ms by itself and --batched_ms as one of many; lengths are lognormal, with a
standard deviation of 0.35 of the logarithm (an assumption, near SQuAD's windows). Printed are
p50, p95 and p99 of the time from arrival to answer.

With --streams above 1 nothing is batched, and --max_batch_ms does not count: each request has a
stream of its own, where it is as cheap as one of a batch, and no stream is idle while one waits.
One alone has the help of all.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bert_rt.support.cli import run_command

_SPREAD = 0.35
_BATCH_MS = 4.0  # what a batch of several costs beside its requests


def simulate(
    *,
    rate: float,
    batched_ms: float,
    alone_ms: float,
    max_batch_ms: float,
    streams: int,
    requests: int,
    seed: int,
) -> list[float]:
    """Return the sorted latencies of so many requests, in ms."""
    draw = random.Random(seed)
    arrivals: deque[tuple[float, float]] = deque()
    at_ms = 0.0
    for _ in range(requests):
        at_ms += draw.expovariate(rate) * 1000
        arrivals.append((at_ms, batched_ms * draw.lognormvariate(-(_SPREAD**2) / 2, _SPREAD)))
    if streams > 1:
        alone_speed = batched_ms / alone_ms
        return sorted(_streamed(arrivals, streams, alone_speed))
    return sorted(_batched(arrivals, batched_ms, alone_ms, max_batch_ms))


def _batched(
    arrivals: deque[tuple[float, float]], batched_ms: float, alone_ms: float, max_batch_ms: float
) -> list[float]:
    """Return the latencies where one batch runs after the other."""
    waiting: deque[tuple[float, float]] = deque()
    latencies: list[float] = []
    now_ms = 0.0
    while arrivals or waiting:
        while arrivals and arrivals[0][0] <= now_ms:
            waiting.append(arrivals.popleft())
        if not waiting:
            now_ms = arrivals[0][0]
            continue
        batch = [waiting.popleft()]
        work_ms = batch[0][1]
        while waiting and work_ms + waiting[0][1] <= max_batch_ms:
            batch.append(waiting.popleft())
            work_ms += batch[-1][1]
        alone_extra_ms = (alone_ms - batched_ms) * work_ms / batched_ms
        now_ms += work_ms + (alone_extra_ms if len(batch) == 1 else _BATCH_MS)
        latencies += [now_ms - arrival_ms for arrival_ms, _ in batch]
    return latencies


def _streamed(
    arrivals: deque[tuple[float, float]], streams: int, alone_speed: float
) -> list[float]:
    """Return the latencies where each request has a stream, in the order of arrival."""
    waiting: deque[tuple[float, float]] = deque()
    running: list[list[float]] = []  # when it came, and what is left of it
    latencies: list[float] = []
    now_ms = 0.0
    while arrivals or waiting or running:
        while waiting and len(running) < streams:
            running.append([*waiting.popleft()])
        speed = alone_speed if len(running) == 1 else 1 / streams
        first = min(running, key=lambda request: request[1], default=None)
        next_ms = arrivals[0][0] - now_ms if arrivals else math.inf
        end_ms = math.inf if first is None else first[1] / speed
        step_ms = min(next_ms, end_ms)
        now_ms += step_ms
        for request in running:
            request[1] -= step_ms * speed
        if first is None or next_ms < end_ms:
            waiting.append(arrivals.popleft())
        else:
            running.remove(first)
            latencies.append(now_ms - first[0])
    return latencies


def main(argv: Sequence[str]) -> None:
    """Print the latencies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, required=True, help="arrivals a second")
    parser.add_argument("--batched_ms", type=float, required=True, metavar="MS")
    parser.add_argument("--alone_ms", type=float, required=True, metavar="MS")
    parser.add_argument("--max_batch_ms", type=float, default=200.0, metavar="MS")
    parser.add_argument("--streams", type=int, default=1, metavar="N")
    parser.add_argument("--requests", type=int, default=200_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    for name in ("rate", "batched_ms", "alone_ms", "max_batch_ms", "streams", "requests"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name}: got {getattr(args, name)}, want a number above 0")
    latencies = simulate(**vars(args))
    at = [latencies[int(len(latencies) * share)] for share in (0.5, 0.95, 0.99)]
    print("p50 {:.0f}, p95 {:.0f}, p99 {:.0f} ms".format(*at))


if __name__ == "__main__":
    sys.exit(run_command(main))
