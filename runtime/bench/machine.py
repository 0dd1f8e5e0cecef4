"""Where it was measured: what a reader needs to judge, or to repeat, a figure."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bert_rt import __version__
from bert_rt.engines.threads import cpu_budget

__all__ = ["IssueMeter", "LoadMeter", "describe_machine", "measure_peaks"]

_PACKAGES = ("numpy", "tokenizers", "onnxruntime", "openvino", "nncf", "torch")
_ROOT = Path(__file__).resolve().parents[2]
# What changes how engines compute.
_VARIABLES = ("BERT_RT_ISA", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")
_PEAK_SECONDS = 0.1


def describe_machine(num_threads: int) -> dict[str, Any]:
    """Describe the machine, the software and the moment.

    Args:
        num_threads: Threads of every engine.

    Returns:
        What JSON can hold.
    """
    budget = cpu_budget()
    return {
        "cpu": _cpu_model(),
        "isas": _isas(),
        "num_threads": num_threads,
        "physical_cores": budget.physical_cores,
        "affinity_cpus": budget.affinity_cpus,
        "quota_cpus": budget.quota_cpus,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": _versions(),
        "commit": _commit(),
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def measure_peaks(isas: Sequence[str], num_threads: int) -> Mapping[str, float]:
    """Measure the most that the dot-product unit does, on all threads at once.

    Args:
        isas: Instruction sets of the native engine.
        num_threads: Threads that measure at the same time: cores share power and clock.

    Returns:
        Operations a CPU second of one thread, the mean over the threads, by instruction set.
    """
    from bert_rt import _native

    peaks = {}
    with ThreadPoolExecutor(num_threads) as pool:
        for isa in isas:
            runs = [
                pool.submit(_native.measure_peak, isa, _PEAK_SECONDS) for _ in range(num_threads)
            ]
            peaks[isa] = sum(run.result() for run in runs) / num_threads
    return peaks


class IssueMeter:
    """Watches how many instructions a cycle the cores take from this process.

    Where another thread of a core is busy, a tenant's of the same host, say, they are fewer, and
    everything is slower but the loop that measures the peak, which needs few.
    """

    def __init__(self, num_threads: int, measure: Callable[[], float] | None = None) -> None:
        """Take no sample yet.

        Args:
            num_threads: Threads that measure at the same time.
            measure: Instructions a cycle of the calling thread; left out: the native module's.
        """
        if measure is None:
            with contextlib.suppress(ImportError):
                from bert_rt import _native

                measure = _native.measure_issue_width
        self._num_threads = num_threads
        self._measure = measure
        self._samples: list[float] = []

    def sample(self) -> None:
        """Measure on all threads at once, for some milliseconds."""
        if self._measure is None:
            return
        with ThreadPoolExecutor(self._num_threads) as pool:
            runs = [pool.submit(self._measure) for _ in range(self._num_threads)]
            self._samples += [run.result() for run in runs]

    def summary(self) -> dict[str, float] | None:
        """Return median, 5th and 95th percentile of all samples; None where nothing was told."""
        if not self._samples or not all(self._samples):
            return None
        low, median, high = np.percentile(self._samples, [5, 50, 95])
        return {"median": float(median), "low": float(low), "high": float(high)}


class LoadMeter:
    """Measures what other processes took from the CPUs while this one was measured."""

    def __init__(self) -> None:
        """Start."""
        self._before = _cpu_seconds()
        self._start = (time.perf_counter(), time.process_time())

    def stop(self) -> float | None:
        """Return how many CPUs were busy for others, or stolen by the host, on average."""
        after = _cpu_seconds()
        if self._before is None or after is None:
            return None
        seconds = time.perf_counter() - self._start[0]
        own = time.process_time() - self._start[1]
        return max(0.0, (after - self._before - own) / seconds)


def _cpu_seconds() -> float | None:
    """Seconds that all CPUs together were not idle since the machine started."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"


def _isas() -> list[str]:
    try:
        from bert_rt import _native
    except ImportError:
        return []
    return list(_native.supported_isas())


def _versions() -> dict[str, str]:
    versions = {"bert-rt": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _commit() -> str | None:
    """Return the commit of the source tree, marked where files differ from it."""
    command = ("git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12")
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
