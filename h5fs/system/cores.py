"""How many processors this process may use, which is often fewer than the machine has."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_VERSION_1 = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")
_VERSION_2 = ("sys/fs/cgroup", "sys/fs/cgroup/unified")


@functools.cache
def count_cores() -> int:
    """Return the number of processors that may be used, at least 1.

    The number is counted once and kept: a confined worker can no longer read what it comes from.
    """
    return count_cores_of(os.environ, Path("/"))


def count_cores_of(environment: Mapping[str, str], root: Path) -> int:
    """Return the number of processors that may be used, at least 1.

    The least of: those that the scheduler gives this process (``taskset``, cpusets), the quota of
    its control groups (containers), and what Slurm has granted. ``root`` is where /proc and /sys
    are.
    """
    counts = [_count_scheduled(), *_quotas(root)]
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        granted = environment.get(name, "")
        if granted.isdecimal():
            counts.append(int(granted))
            break
    return max(min(counts), 1)


def _count_scheduled() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quotas of this process's control groups and all above, rounded up."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = _VERSION_1 if controllers else _VERSION_2
        # In a container the path may be the host's: its own group is then the mount's root.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts:
            for depth in range(len(parts) + 1):
                with suppress(OSError, ValueError, IndexError):
                    yield from _quota_of(root.joinpath(mount, *parts[:depth]))


def _quota_of(group: Path) -> Iterator[int]:
    if (group / "cpu.max").exists():  # version 2
        quota, period = (group / "cpu.max").read_text().split()[:2]
        if quota == "max":
            return
    else:
        quota = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
    if int(quota) > 0 and int(period) > 0:
        yield -(-int(quota) // int(period))
