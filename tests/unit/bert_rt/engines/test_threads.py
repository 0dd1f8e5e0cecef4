"""Tests of bert_rt.engines.threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from bert_rt.engines.threads import MAX_THREADS, available_cpus, cpu_budget, resolve_num_threads
from bert_rt.errors import ConfigError


def write(root: Path, files: dict[str, str]) -> Path:
    """Write the files of /proc and /sys that a test needs."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def topology(siblings: dict[int, str], name: str = "core_cpus_list") -> dict[str, str]:
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/{name}": f"{text}\n"
        for cpu, text in siblings.items()
    }


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_siblings_count_once(tmp_path: Path, name: str) -> None:
    siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    budget = cpu_budget(write(tmp_path, topology(siblings, name)))
    assert (budget.affinity_cpus, budget.physical_cores, budget.quota_cpus) == (8, 4, None)
    assert budget.num_threads == 4


@pytest.mark.usefixtures("eight_cpus")
def test_without_topology_every_cpu_is_a_core(tmp_path: Path) -> None:
    assert cpu_budget(tmp_path).num_threads == 8


def test_only_cpus_of_the_affinity_mask_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    assert cpu_budget(write(tmp_path, topology(siblings))).num_threads == 2


V2 = {"proc/self/cgroup": "0::/a/b\n"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n"}


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("files", "quota", "num_threads"),
    [
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"}, 3.0, 3),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5, 2),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "10000 100000\n"}, 0.1, 1),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None, 8),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "9900000 100000\n"}, 99.0, 8),
        # The tightest of all levels holds.
        (
            V2
            | {
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
            },
            2.0,
            2,
        ),
        # A container sees its own group at the top, whatever path the host gave it.
        (V2 | {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0, 2),
        (
            V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2.5,
            3,
        ),
        (
            V1
            | {
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000",
            },
            None,
            8,
        ),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "nonsense"}, None, 8),
        (V2 | {"sys/fs/cgroup/a/b/cpu.max": "100000 0"}, None, 8),
        ({"proc/self/cgroup": "garbage\n::\n"}, None, 8),
    ],
)
def test_the_quota_of_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None, num_threads: int
) -> None:
    budget = cpu_budget(write(tmp_path, files))
    assert (budget.quota_cpus, budget.num_threads) == (quota, num_threads)


def test_this_machine() -> None:
    budget = cpu_budget()
    assert 1 <= budget.num_threads <= budget.physical_cores <= budget.affinity_cpus
    assert budget.num_threads <= available_cpus() <= budget.affinity_cpus
    assert resolve_num_threads(None) == budget.num_threads


@pytest.mark.parametrize("value", [0, -1, MAX_THREADS + 1, True, 2.0, "2"])
def test_a_wrong_number_of_threads_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="num_threads: got"):
        resolve_num_threads(value)


@pytest.mark.parametrize("value", [1, 3, MAX_THREADS])
def test_a_number_asked_for_is_taken(value: int) -> None:
    assert resolve_num_threads(value) == value
