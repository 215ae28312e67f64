#!/usr/bin/env python3
"""Measure what small changes cost before anything of HDF5 is done for them.

    scripts/fuse_room_alone.py [--changes 400]

Mounts a tree that is a dict in memory (that of tests/fuse) by the operations and the session of a
mount in mode r+, and makes the changes of `scripts/bench 31` there. Prints for each, in
milliseconds: the median of the program's whole call, and what the daemon and the program computed.
What a change takes beyond that in a mount of a file is the writing tree's, the worker's and the
log's part.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "fuse")]

import numpy as np  # noqa: E402
import test_writing_operations as room  # noqa: E402
from sleeping_processors import PAGE, changes  # noqa: E402

_SECONDS = 30.0


class _PlainTree(room.MemoryTree):
    """Without the notes and failures that the tests ask for."""

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=400, help="of each kind")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        room.MemoryTree = _PlainTree  # type: ignore[misc]
        room.serve_a_tree(options.serve, os.devnull)
        return 0
    with tempfile.TemporaryDirectory(prefix="h5fs-fuse-room-") as folder:
        daemon = subprocess.Popen(
            [sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True
        )
        try:
            assert daemon.stdout is not None
            if daemon.stdout.readline() != "ready\n":
                return 1
            print(f"{'':16}{'whole':>8}{'daemon':>8}{'program':>9}")
            with open(make_array(Path(folder)), "r+b", buffering=0) as array:
                for name, change in changes(Path(folder), array.fileno()).items():
                    whole, computed, own = measure(change, daemon.pid, options.changes)
                    print(f"{name:16}{whole:8.3f}{computed:8.3f}{own:9.3f}", flush=True)
        finally:
            subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
            daemon.wait(_SECONDS)
    return 0


def make_array(folder: Path) -> Path:
    """Make the array that pages are written to."""
    np.save(folder / "pages.npy", np.zeros(len(PAGE)))
    return folder / "pages.npy"


def measure(change: Callable[[int], object], pid: int, count: int) -> tuple[float, float, float]:
    """Make a change ``count`` times.

    Returns: milliseconds of each, the median of the whole; what the process ``pid`` computed, and
    this one.
    """
    took = []
    daemon, own = computed_ms(pid), time.process_time()
    for number in range(count):
        start = time.perf_counter()
        change(number)
        took.append(time.perf_counter() - start)
    spent = time.process_time() - own
    return (
        1000 * statistics.median(took), (computed_ms(pid) - daemon) / count, 1000 * spent / count,
    )  # fmt: skip


def computed_ms(pid: int) -> float:
    """Return how long a process's threads have computed."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


if __name__ == "__main__":
    sys.exit(main())
