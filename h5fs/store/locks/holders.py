"""Which processes hold a lock on a file, as far as the system tells."""

from __future__ import annotations

import os
from pathlib import Path

from h5fs.errors import show_path


def find_lock_owners(status: os.stat_result) -> list[str]:
    """Return the pids of the processes that took locks on a file; none where nobody tells.

    A lock of an open file description belongs to no process: its pid is "-1".
    """
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    held = [line.split() for line in lines if "->" not in line]
    return [words[4] for words in held if file in words]


def find_lock_holder(status: os.stat_result) -> str:
    """Return `` (NAME, pid N)`` of the process that holds a lock, where the system tells."""
    try:
        pid = next(owner for owner in find_lock_owners(status) if int(owner) > 0)
        # The system cuts a name off after 15 bytes, perhaps within a character.
        name = Path(f"/proc/{pid}/comm").read_bytes().strip()
    except (OSError, StopIteration):
        return ""
    return f" ({show_path(name)}, pid {pid})"
