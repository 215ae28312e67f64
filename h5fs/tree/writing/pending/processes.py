"""Which process it is that removes something."""

from __future__ import annotations

Process = tuple[int, bytes]
"""A process: its number, which another one may get after it, and what tells the two apart."""


def process_of(pid: int) -> Process:
    """Return a process with the time of its start, since its number is another's after its end."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return pid, file.read().rpartition(b")")[2].split()[19]
    except (OSError, IndexError):
        return pid, b""
