#!/usr/bin/env python3
"""Walk very many datasets with attributes through a mount: time for each, and the mount's memory.

    .venv/bin/python scripts/walk_million.py FOLDER [--objects 1000000] [--programs find,ls,du]

Makes two files in FOLDER (or finds them there): groups of 1,000 small datasets with one attribute
each, so many as asked for in all, and 10,000 to compare with. Prints the time for an object of each
program through a fresh mount, and how long the mount's processes computed for it, both ways in
turn, the ratios, the most memory that these processes have had, and how long unmounting took.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from benchmarks.processes import PeakMemory, computing_seconds, find_descendants  # noqa: E402
from support.mounts import mounted  # noqa: E402

PER_GROUP = 1000
FEW = 10_000
MB = 2**20
PROGRAMS = {
    "find": ["find", "{folder}", "-size", "+0"],
    "ls": ["ls", "-lR", "{folder}"],
    "du": ["du", "-s", "{folder}"],
}


def main() -> int:
    """Print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--programs", default="find,ls,du")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    many, few = (make_file(given.folder, count) for count in (given.objects, FEW))
    for name in given.programs.split(","):
        less, more = walk(few, name, FEW), walk(many, name, given.objects)
        print(
            f"{name}: {more.us:.1f} us for each of {given.objects}, {less.us:.1f} of {FEW}: "
            f"{more.us / less.us:.2f}x; computing {more.computing_us:.1f} and "
            f"{less.computing_us:.1f} us: {more.computing_us / less.computing_us:.2f}x; "
            f"{more.memory_mb:.0f} and {less.memory_mb:.0f} MB at most; "
            f"unmounted in {more.end_seconds:.1f} s",
            flush=True,
        )
    return 0


def make_file(folder: Path, count: int) -> Path:
    """Return a file of groups of datasets; write it first when it is not there."""
    path = folder / f"walk-{count}.h5"
    if path.exists():
        return path
    part = path.with_suffix(".part")
    with h5py.File(part, "w", libver="latest") as file:
        space, scalar = h5py.h5s.create_simple((16,)), h5py.h5s.create(h5py.h5s.SCALAR)
        for number in range(count):
            if not number % PER_GROUP:
                group = file.create_group(f"group-{number // PER_GROUP:05d}").id
            name = b"sample-%07d" % number
            data = h5py.h5d.create(group, name, h5py.h5t.STD_I32LE, space)
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(number, number + 16, dtype="<i4"))
            rate = h5py.h5a.create(data, b"rate", h5py.h5t.IEEE_F64LE, scalar)
            rate.write(np.array(float(number)))
    part.rename(path)
    return path


class Walked(NamedTuple):
    """What a walk took: for each object, and in all."""

    us: float
    computing_us: float
    memory_mb: float
    end_seconds: float


def walk(file: Path, program: str, count: int) -> Walked:
    """Go through a fresh mount with a program."""
    with mounted(file) as mount:
        words = [word.format(folder=mount.path) for word in PROGRAMS[program]]
        with PeakMemory(lambda: {mount.pid}) as peak:
            before, start = computing_seconds(find_descendants({mount.pid})), time.monotonic()
            subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
            took = time.monotonic() - start
            computed = computing_seconds(find_descendants({mount.pid})) - before
        start = time.monotonic()
    ended = time.monotonic() - start
    return Walked(took / count * 1e6, computed / count * 1e6, peak.bytes / MB, ended)


if __name__ == "__main__":
    sys.exit(main())
