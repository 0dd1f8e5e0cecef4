"""How many replicas a day's load needs: a simulation, and what queueing formulas say.

    python -m benchmarks.simulate_fleet

Replicas of two cores stand behind one balancer. Each computes one request after the other: on CPUs
a batch is hardly quicker than its requests one by one (52.7 questions/s in batches, 17.8 ms for one
alone, on the page of 2026-11-28). Service times are drawn from measured percentiles. Arrivals are a
Poisson process whose rate follows a day; an hour is cut to a sample, since queues forget within
seconds.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Single requests, text to answer, 2 threads, AVX2 on Zen 3: p50, p95 and p99 of
# results/2026-11-28-bench-minilm-avx2.md, made longer by the median of one alone on the same class
# of machine beside other work (22.7 ms, results/2026-11-29-serving.md). The ends are extrapolated.
_LEVELS = np.array([0.0, 0.5, 0.95, 0.99, 1.0])
_PERCENTILES_MS = np.array([8.0, 17.80, 35.45, 41.47, 44.0]) * (22.7 / 17.80)

_MAX_REPLICAS = 200
_HOURS = 24
_MIN_SHARE = 0.25  # of the peak's rate, at night


@dataclass(frozen=True)
class Times:
    """A distribution of service times in seconds, as a table of quantiles."""

    quantiles: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.quantiles.mean())

    @property
    def squared_variation(self) -> float:
        """The variance over the squared mean: 1 for the exponential of M/M/c."""
        return float(self.quantiles.var()) / self.mean**2

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        return generator.choice(self.quantiles, count)


def measured_times() -> Times:
    """Return the service times of the pages."""
    levels = (np.arange(2000) + 0.5) / 2000
    return Times(np.interp(levels, _LEVELS, _PERCENTILES_MS) / 1000)


def rates_of_day(peak: float) -> np.ndarray:
    """Return arrivals a second by the hour: least at 3, most at 15 o'clock."""
    phase = np.cos(2 * np.pi * (np.arange(_HOURS) - 15) / _HOURS)
    return peak * (_MIN_SHARE + (1 - _MIN_SHARE) * (1 + phase) / 2)


# A balancer takes the requests that every replica has, and says which one gets the next.
Balancer = Callable[[np.ndarray, np.random.Generator], int]


def least_busy(waiting: np.ndarray, generator: np.random.Generator) -> int:
    """Know all queues (nginx: least_conn)."""
    del generator
    return int(waiting.argmin())


def better_of_two(waiting: np.ndarray, generator: np.random.Generator) -> int:
    """Ask two replicas, as Ray Serve does."""
    first, second = (int(generator.random() * len(waiting)) for _ in range(2))
    return first if waiting[first] <= waiting[second] else second


def at_random(waiting: np.ndarray, generator: np.random.Generator) -> int:
    """Know nothing (a Service of Kubernetes)."""
    return int(generator.random() * len(waiting))


BALANCERS = {"least busy": least_busy, "better of two": better_of_two, "at random": at_random}


def simulate(
    rate: float, num_replicas: int, times: Times, balancer: Balancer, *, num: int, seed: int
) -> np.ndarray:
    """Return the seconds from arrival to answer of `num` requests, the first tenth left out."""
    generator = np.random.default_rng(seed)
    arrivals = np.cumsum(generator.exponential(1 / rate, num)).tolist()
    services = times.draw(generator, num).tolist()
    waiting = np.zeros(num_replicas, dtype=np.int64)
    free_at = [0.0] * num_replicas
    ends: list[tuple[float, int]] = []
    taken = np.empty(num)
    for index, (now, service) in enumerate(zip(arrivals, services, strict=True)):
        while ends and ends[0][0] <= now:
            waiting[heapq.heappop(ends)[1]] -= 1
        chosen = balancer(waiting, generator)
        end = max(now, free_at[chosen]) + service
        free_at[chosen] = end
        waiting[chosen] += 1
        heapq.heappush(ends, (end, chosen))
        taken[index] = end - now
    return taken[num // 10 :]


def worst_p99(
    peak: float, num_replicas: int, times: Times, balancer: Balancer, *, num: int, seed: int
) -> float:
    """Return the p99 in seconds of a day's worst hour; infinite where load exceeds capacity."""
    worst = 0.0
    for hour, rate in enumerate(rates_of_day(peak)):
        if rate * times.mean >= num_replicas:
            return math.inf
        taken = simulate(rate, num_replicas, times, balancer, num=num, seed=seed + hour)
        worst = max(worst, float(np.quantile(taken, 0.99)))
    return worst


def erlang_c(num_servers: int, load: float) -> float:
    """Return the probability that an arrival waits in M/M/c (Erlang's second formula).

    Source: A. K. Erlang, 1917; by the recursion of the first formula, which does not overflow.
    """
    blocked = 1.0
    for index in range(1, num_servers + 1):
        blocked = load * blocked / (index + load * blocked)
    return blocked / (1 - load / num_servers * (1 - blocked))


def formula_p99(rate: float, num_servers: int, times: Times, *, is_general: bool) -> float:
    """Return the p99 of M/G/c by approximation, or of the wait of M/M/c plus the service.

    The wait is exponential with the rate of M/M/c, over (1 + squared variation) / 2 for M/G/c.

    Source: A. M. Lee and P. A. Longton, 1959 (the factor); one queue for all servers.
    """
    load = rate * times.mean
    if load >= num_servers:
        return math.inf
    waits = erlang_c(num_servers, load)
    factor = (1 + times.squared_variation) / 2 if is_general else 1.0
    drain = (num_servers - load) / times.mean / factor
    low, high = 0.0, 3600.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        rest = middle - times.quantiles
        late = np.where(rest < 0, 1.0, waits * np.exp(-drain * np.maximum(rest, 0)))
        low, high = (middle, high) if late.mean() > 0.01 else (low, middle)
    return high


def least_replicas(p99_of: Callable[[int], float], limit_s: float, at_least: int) -> int | None:
    """Return the fewest replicas whose p99 is in time, by halving; None above _MAX_REPLICAS."""
    if p99_of(_MAX_REPLICAS) > limit_s:
        return None
    low, high = max(at_least, 1) - 1, _MAX_REPLICAS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if p99_of(middle) <= limit_s else (middle, high)
    return high


def _simulated(
    peak: float, limit_s: float, times: Times, balancer: Balancer, *, num: int, seed: int
) -> int | None:
    """Find the replicas for the peak, and then add some where another hour is late."""

    def at_peak(count: int) -> float:
        if peak * times.mean >= count:
            return math.inf
        taken = simulate(peak, count, times, balancer, num=num, seed=seed)
        return float(np.quantile(taken, 0.99))

    found = least_replicas(at_peak, limit_s, math.floor(peak * times.mean))
    while found is not None:
        if worst_p99(peak, found, times, balancer, num=num, seed=seed) <= limit_s:
            return found
        found = found + 1 if found < _MAX_REPLICAS else None
    return None


def _row(peak: float, limit_s: float, times: Times, *, num: int, seed: int) -> list[str]:
    floor = math.floor(peak * times.mean)
    cells: list[int | None] = [
        least_replicas(
            lambda count, is_general=is_general: formula_p99(  # type: ignore[misc]
                peak, count, times, is_general=is_general
            ),
            limit_s,
            floor,
        )
        for is_general in (False, True)
    ]
    for balancer in BALANCERS.values():
        cells += [_simulated(peak, limit_s, times, balancer, num=num, seed=seed)]
    shown = [f"> {_MAX_REPLICAS}" if cell is None else str(cell) for cell in cells]
    return [f"{peak:g}", f"{peak * times.mean:.1f}", *shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit_ms", type=float, default=130.0)
    parser.add_argument("--requests", type=int, default=20_000, help="of each hour")
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument(
        "--peaks",
        type=float,
        nargs="+",
        default=[5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 7000],
    )
    args = parser.parse_args()
    times = measured_times()
    print(
        f"Service: mean {1000 * times.mean:.1f} ms, squared variation "
        f"{times.squared_variation:.3f}, p99 {1000 * np.quantile(times.quantiles, 0.99):.1f} ms; "
        f"seed {args.seed}, {args.requests} requests an hour.\n"
    )
    names = ["peak, requests/s", "replicas at 100 %", "M/M/c", "M/G/c", *BALANCERS]
    print("| " + " | ".join(names) + " |\n|" + " --- |" * len(names))
    for peak in args.peaks:
        cells = _row(peak, args.limit_ms / 1000, times, num=args.requests, seed=args.seed)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
