"""How many processors may be used: what the scheduler, control groups and Slurm say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from h5fs.system import cores
from h5fs.system.cores import count_cores, count_cores_of

MANY = 64


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2 = "0::/user.slice/a\n"
V1 = "9:name=systemd:/x\n4:cpu,cpuacct:/a/b\n3:memory:/c\n"
GROUPS: dict[str, tuple[dict[str, str], int]] = {
    "no groups": ({}, MANY),
    "no quota": ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "max 100000"}, MANY),
    "its own": ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/a/cpu.max": "200000 100000"}, 2),
    "rounded up": ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
    "less than one": ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "1000 100000"}, 1),
    "of one above": (
        {
            "proc/self/cgroup": V2,
            "sys/fs/cgroup/user.slice/cpu.max": "300000 100000",
            "sys/fs/cgroup/user.slice/a/cpu.max": "500000 100000",
        },
        3,
    ),
    "a container's": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
    "of a host's path": (
        {"proc/self/cgroup": "0::/../../docker/1\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, 4,
    ),
    "version 1": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "500000\n",
            "sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
        },
        5,
    ),
    "version 1 without a quota": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        MANY,
    ),
    "nonsense": ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "many"}, MANY),
}  # fmt: skip


@pytest.mark.semantics("W1")
@pytest.mark.parametrize("name", GROUPS)
def test_a_quota_of_control_groups_counts(tmp_path: Path, name: str) -> None:
    files, expected = GROUPS[name]
    assert count_cores_of({}, write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "3", "SLURM_CPUS_ON_NODE": "8"}, 3),
        ({"SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_CPUS_PER_TASK": "many"}, MANY),
        ({"SLURM_CPUS_PER_TASK": "0"}, 1),
        ({}, MANY),
    ],
)
def test_what_slurm_has_granted_counts(
    tmp_path: Path, environment: dict[str, str], expected: int
) -> None:
    assert count_cores_of(environment, tmp_path) == expected


def test_the_processors_of_the_scheduler_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert count_cores_of({}, tmp_path) == 2
    count_cores.cache_clear()
    assert count_cores() <= 2
    count_cores.cache_clear()


def test_nothing_else_counts_processors() -> None:
    package = Path(cores.__file__).parent.parent
    others = [path for path in package.rglob("*.py") if path.name != "cores.py"]
    assert others
    assert not [path for path in others if "cpu_count" in path.read_text(encoding="utf-8")]
