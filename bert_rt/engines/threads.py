"""How many threads an engine should use: what this process may run on, not what the machine has.

Three things bound it: the CPU affinity of the process, the CPU quota of its control groups (how
containers limit a process), and the number of physical cores. Two hardware threads of one core
share its multipliers, so a second compute thread there only waits for the first.

Source: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst
    (cpu.cfs_quota_us), ABI/stable/sysfs-devices-system-cpu (topology).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bert_rt.errors import ConfigError

__all__ = ["MAX_THREADS", "CpuBudget", "available_cpus", "cpu_budget", "resolve_num_threads"]

# Above any machine's cores; a number beyond it is a mistake, not a wish.
MAX_THREADS = 1024


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """What this process may compute on.

    Attributes:
        affinity_cpus: Logical CPUs that the process may be scheduled on.
        physical_cores: Different cores among them.
        quota_cpus: CPU time a second that the control groups allow, or None for no limit.
    """

    affinity_cpus: int
    physical_cores: int
    quota_cpus: float | None

    @property
    def num_threads(self) -> int:
        """Threads to use by default: one a physical core, and no more than the quota feeds."""
        return _within(self.physical_cores, self.quota_cpus)


def cpu_budget(root: Path = Path("/")) -> CpuBudget:
    """Measure what this process may compute on.

    Args:
        root: Where the file systems /proc and /sys are mounted, other than "/" in tests.

    Returns:
        The budget now; affinity and quota may be changed while a process runs.
    """
    # Absent outside Linux; what is left is the count of the machine.
    if hasattr(os, "sched_getaffinity"):
        cpus = os.sched_getaffinity(0)
    else:
        cpus = set(range(os.cpu_count() or 1))
    return CpuBudget(
        affinity_cpus=len(cpus),
        physical_cores=_physical_cores(cpus, root / "sys/devices/system/cpu"),
        quota_cpus=_quota_cpus(root),
    )


def available_cpus() -> int:
    """Return how many CPUs this process may keep busy, by affinity and quota; at least 1."""
    budget = cpu_budget()
    return _within(budget.affinity_cpus, budget.quota_cpus)


def resolve_num_threads(num_threads: int | None) -> int:
    """Turn what a caller asked for into a number of threads.

    Args:
        num_threads: 1 to MAX_THREADS, which may be more than there are CPUs; None for the default
            of this process.

    Returns:
        The number, at least 1.

    Raises:
        ConfigError: The value is no integer or out of range.
    """
    if num_threads is None:
        return cpu_budget().num_threads
    is_integer = isinstance(num_threads, int) and not isinstance(num_threads, bool)
    if not is_integer or not 1 <= num_threads <= MAX_THREADS:
        raise ConfigError(
            f"num_threads: got {num_threads!r}, want an integer from 1 to {MAX_THREADS}, or None"
        )
    return num_threads


def _within(count: int, quota_cpus: float | None) -> int:
    # Rounded up, as Go and Java do: a quota of 1.5 CPUs feeds two threads three quarters of the
    # time, which computes more than one thread all of the time.
    return count if quota_cpus is None else max(1, min(count, math.ceil(quota_cpus)))


def _physical_cores(cpus: Iterable[int], topology: Path) -> int:
    cores = set()
    for cpu in cpus:
        directory = topology / f"cpu{cpu}" / "topology"
        # The second name is that of kernels before 5.3. Where neither is there (some sandboxes),
        # every CPU counts as a core.
        siblings = _read(directory / "core_cpus_list") or _read(directory / "thread_siblings_list")
        cores.add(siblings or str(cpu))
    return len(cores)


def _quota_cpus(root: Path) -> float | None:
    """Return the tightest quota of the process's control groups and of all above them."""
    quotas: list[float | None] = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        mount = root / "sys/fs/cgroup"
        if controllers:  # version 1: one mount a set of controllers
            if "cpu" not in controllers.split(","):
                continue
            # Some systems mount it as "cpu,cpuacct", others as "cpu".
            mount = next((p for p in (mount / controllers, mount / "cpu") if p.is_dir()), mount)
        # A container sees its own group as the top, while the path may be the host's: levels
        # that are not there say nothing.
        levels = [part for part in path.split("/") if part and part != ".."]
        groups = (mount.joinpath(*levels[:depth]) for depth in range(len(levels) + 1))
        quotas += [_quota_of(group, is_v1=bool(controllers)) for group in groups]
    limits = [quota for quota in quotas if quota is not None]
    return min(limits, default=None)


def _quota_of(group: Path, *, is_v1: bool) -> float | None:
    if is_v1:
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    else:
        quota, period = (*(_read(group / "cpu.max") or "").split(), "", "")[:2]
    # "max" (version 2) and -1 (version 1) mean no limit.
    if not quota or not period or not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
