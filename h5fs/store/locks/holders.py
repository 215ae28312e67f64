"""Which process holds a lock on a file, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path


def find_lock_holder(status: os.stat_result) -> str:
    """Return `` (NAME, pid N)`` of the process that holds a lock, where the system tells."""
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
        pids = [line.split()[4] for line in lines if "->" not in line and place in line.split()]
        # A lock of an open file description belongs to no process.
        pid = next(pid for pid in pids if int(pid) > 0)
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, StopIteration, ValueError):
        return ""
    return f" ({name}, pid {pid})"
