#!/usr/bin/env python3
"""Measure what a processor that has gone to sleep costs small changes through a mount.

    .venv/bin/python scripts/sleeping_processors.py [--changes 300] [--runs 3]

Each request goes from the program to the daemon, to the worker, and back, and each of these may
have to be woken. On a virtual machine whose idle processors stop, waking one on another processor
takes 30 us; on the same one it takes 1 us. Prints the time of a round trip of one byte between two
processes, and the median time of each small change of `scripts/bench 31`, in milliseconds,

- as they are: wherever the system puts the processes;
- placed: the program and the daemon on one processor, the worker alone on another;
- placed and awake: the same, while a process of idle priority keeps each processor from stopping.

Needs two processors and a quiet machine. Nothing of this is what h5fs does by itself: a program
that ties others to processors is in the way of all others on a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from benchmarks.processes import find_descendants  # noqa: E402
from support.mounts import mounted  # noqa: E402

PAGE = bytes(4096)
_ATTRIBUTES = json.dumps({"a": 1, "b": 2.5, "c": "text"}).encode()
_ROUND_TRIPS = 20_000
_SPIN = """
import os, sys
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {int(sys.argv[1])})
print("ready", flush=True)
while True:
    pass
"""

Change = Callable[[int], object]
Ways = dict[str, dict[str, list[float]]]


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=300, help="of each kind, in each way")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        print("it takes two processors", file=sys.stderr)
        return 1
    first, other = processors[:2]
    for name, where in (("another processor", other), ("the same processor", first)):
        asleep = round_trip_us(first, where)
        with awake(first, other):
            print(f"round trip to {name}: {asleep:.1f} us, {round_trip_us(first, where):.1f} awake")
    found: Ways = {"as they are": {}, "placed": {}, "placed and awake": {}}
    with tempfile.TemporaryDirectory(prefix="h5fs-processors-") as folder:
        file = Path(folder, "f.h5")
        with h5py.File(file, "w", libver="latest") as made:
            made["pages"] = np.zeros(len(PAGE))
        with mounted(file, options=["-o", "mode=r+"]) as mount:
            measure_in_turn(mount.path, mount.pid, found, options.runs, options.changes)
    print(f"{'':18}" + "".join(f"{name:>18}" for name in found))
    for kind in next(iter(found.values())):
        medians = (statistics.median(each[kind]) for each in found.values())
        print(f"{kind:18}" + "".join(f"{median:18.2f}" for median in medians))
    return 0


def measure_in_turn(folder: Path, daemon: int, found: Ways, runs: int, count: int) -> None:
    """Add the times of changes to ``found``, one way after the other, several times."""
    everywhere = sorted(os.sched_getaffinity(0))
    first, other = everywhere[:2]
    with open(folder / "pages.npy", "r+b", buffering=0) as pages:
        kinds = changes(folder, pages.fileno())
        for run in range(-1, runs):  # the first one warms up
            numbers = range((run + 1) * count, (run + 2) * count)
            for place, (name, times) in enumerate(found.items()):
                measured = {} if run < 0 else times
                if name == "as they are":
                    put(os.getpid(), everywhere)
                    for pid in find_descendants({daemon}):
                        put(pid, everywhere)
                    measure(kinds, measured, numbers, place)
                    continue
                for pid in find_descendants({daemon}):
                    put(pid, [first] if pid == daemon else [other])
                put(os.getpid(), [first])
                if name == "placed":
                    measure(kinds, measured, numbers, place)
                else:
                    with awake(first, other):
                        measure(kinds, measured, numbers, place)
    put(os.getpid(), everywhere)


def measure(
    kinds: dict[str, Change], times: dict[str, list[float]], numbers: range, place: int
) -> None:
    """Make each kind of change with each number; add milliseconds. ``place``: keeps names apart."""
    for kind, change in kinds.items():
        for number in numbers:
            start = time.perf_counter()
            change(number * 10 + place)
            times.setdefault(kind, []).append(1000 * (time.perf_counter() - start))


def changes(folder: Path, pages: int) -> dict[str, Change]:
    """Return what makes the change of a number, by its name. ``pages``: the open array's file."""
    values = np.arange(100.0)
    return {
        "np.save": lambda number: np.save(folder / f"s{number}.npy", values),
        "attribute file": lambda _number: (folder / "pages.attrs.json").write_bytes(_ATTRIBUTES),
        "mkdir": lambda number: os.mkdir(folder / f"d{number}"),
        "rename": lambda number: os.rename(folder / f"s{number}.npy", folder / f"t{number}.npy"),
        "unlink": lambda number: os.unlink(folder / f"t{number}.npy"),
        # The first page has the header, which has to stay.
        "pwrite of a page": lambda n: os.pwrite(pages, PAGE, (1 + n % 7) * len(PAGE)),
    }


def round_trip_us(one: int, other: int) -> float:
    """Return how long one byte takes from a process on one processor to another and back."""
    there, back = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        put(os.getpid(), [other])
        for _ in range(_ROUND_TRIPS):
            os.write(back[1], os.read(there[0], 1))
        os._exit(0)
    before = sorted(os.sched_getaffinity(0))
    put(os.getpid(), [one])
    start = time.perf_counter()
    for _ in range(_ROUND_TRIPS):
        os.write(there[1], b".")
        os.read(back[0], 1)
    took = time.perf_counter() - start
    os.waitpid(child, 0)
    put(os.getpid(), before)
    for descriptor in (*there, *back):
        os.close(descriptor)
    return 1e6 * took / _ROUND_TRIPS


@contextmanager
def awake(*processors: int) -> Iterator[None]:
    """Keep processors from stopping, by processes that run when nobody else wants to."""
    spinning = [
        subprocess.Popen([sys.executable, "-c", _SPIN, str(each)], stdout=subprocess.PIPE)
        for each in processors
    ]
    try:
        for process in spinning:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def put(pid: int, processors: list[int]) -> None:
    """Let all threads of a process run on these processors only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), processors)


if __name__ == "__main__":
    sys.exit(main())
