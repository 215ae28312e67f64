"""A daemon and its workers, as /proc shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def family(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for folder in Path("/proc").glob("[0-9]*"):
        if _parent(folder) == pid:
            yield from family(int(folder.name))


def bytes_read(pid: int) -> int:
    """Return how many bytes a daemon and its workers have read, from files and from each other."""
    total = 0
    for member in family(pid):
        try:
            total += int(Path(f"/proc/{member}/io").read_text().splitlines()[0].split()[1])
        except (OSError, IndexError):
            continue  # it has ended meanwhile
    return total


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_bytes().rsplit(b")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0
