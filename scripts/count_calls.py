#!/usr/bin/env python3
"""Count what programs that go through many small objects make h5fs ask of its workers.

    .venv/bin/python scripts/count_calls.py FOLDER [--files 300] [--datasets 10] [--only WORDS]

Makes a folder of small HDF5 files, and one file of as many datasets, in FOLDER (or finds them
there): every other dataset gzip, three attributes each. Prints for each program the calls to
workers by method, how many workers were started, the time for each dataset, and the computing time
of h5fs (with its workers, and with the system's) beside that of h5py, which visits the same in one
program. The counts are the same on a busy machine and on a quiet one.
"""

from __future__ import annotations

import argparse
import collections
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from benchmarks.processes import computing_seconds, find_descendants  # noqa: E402
from support.mounts import end_mount  # noqa: E402

from h5fs.daemon.registry import find_daemon  # noqa: E402

# Runs the command with a line in a file for each call to a worker, and each start of one.
_COUNTING = """
import os, sys
sys.path.insert(0, {root!r})
from h5fs.store.workers.connection import WorkerConnection
call, begin = WorkerConnection.call, WorkerConnection.__init__
def note(word):  # opened anew each time, since a daemon closes what it does not know
    with open({counts!r}, "a") as file:
        file.write(word + "\\n")
def counted(self, method, *given, **named):
    note(method)
    return call(self, method, *given, **named)
def begun(self, *given, **named):
    note("(worker)")
    begin(self, *given, **named)
WorkerConnection.call, WorkerConnection.__init__ = counted, begun
sys.argv = ["h5fs", *sys.argv[1:]]
from h5fs.cli.start import main
sys.exit(main())
"""

# What is done to a mount of the folder, and what without a mount to the one file or the folder.
_THROUGH_MOUNT = {
    "ls -lR": "ls -lR {mount}",
    "ls -f": "find {mount}",
    "grep": "grep -r units --include=*.attrs.json {mount}",
    "cp -r": "cp -r {mount} {target}",
    "tar c": "tar cf {target} -C {mount} .",
}
_COMMANDS = {
    "h5fs cp": "cp {file}:/ {target}",
    "h5fs tree --json": "tree --json {file}",
    "h5fs tree --attrs": "tree --attrs {file}",
    "h5fs check": "check {file}",
    "h5fs tree FOLDER": "tree --json {folder}",
}
_H5PY = """
import h5py, sys
for path in sys.argv[1:]:
    with h5py.File(path, "r") as file:
        file.visititems(lambda _, each: (dict(each.attrs), each[...] if hasattr(each, "shape")
                                         else 0) and None)
"""


def main() -> int:
    """Print a line for each program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--datasets", type=int, default=10)
    parser.add_argument("--only", default="", help="programs whose name has this in it")
    given = parser.parse_args()
    folder = _make_folder(given.folder, given.files, given.datasets)
    file = _make_one(given.folder, given.files * given.datasets)
    count = given.files * given.datasets
    for name, words in (
        ("h5py, one file", [str(file)]),
        ("h5py, folder", sorted(map(str, folder.iterdir()))),
    ):
        _tell(name, *_timed([sys.executable, "-c", _H5PY, *words]), count, [])
    for name, words in _THROUGH_MOUNT.items():
        if given.only in name:
            _walk_mount(name, words, folder, count)
    for name, words in _COMMANDS.items():
        if given.only in name:
            _run_command(name, words, file, folder, count)
    return 0


def _make_folder(place: Path, files: int, datasets: int) -> Path:
    folder = place / f"many-{files}-{datasets}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        part.mkdir(parents=True)
        for number in range(files):
            _write(part / f"station-{number:05d}.h5", datasets)
        part.rename(folder)
    return folder


def _make_one(place: Path, datasets: int) -> Path:
    path = place / f"one-{datasets}.h5"
    if not path.exists():
        part = path.with_suffix(".part")
        _write(part, datasets)
        part.rename(path)
    return path


def _write(path: Path, count: int) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(count):
            layout = {"chunks": (100,), "compression": "gzip"} if number % 2 else {}
            data = np.arange(number, number + 100, dtype="f8")
            dataset = file.create_dataset(f"sample-{number:05d}", data=data, **layout)
            dataset.attrs["units"], dataset.attrs["rate"] = "mV", 30.0 + number
            dataset.attrs["range"] = np.array([0.0, number])


def _walk_mount(name: str, words: str, folder: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        mount, target, counts = (Path(temporary, each) for each in ("mnt", "copy", "counts"))
        mount.mkdir()
        _call([str(folder), str(mount), "-o", f"log={temporary}/log"], counts)
        try:
            daemon = find_daemon(mount)
            assert daemon is not None
            pid = daemon.pid
            before = computing_seconds(find_descendants({pid}))
            program = [each.format(mount=mount, target=target) for each in words.split()]
            took, own = _timed(program)
            computed = own + computing_seconds(find_descendants({pid})) - before
            _tell(name, took, computed, count, _lines(counts))
        finally:
            end_mount(mount)


def _run_command(name: str, words: str, file: Path, folder: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        target, counts = Path(temporary, "copy"), Path(temporary, "counts")
        target.mkdir()
        program = [each.format(file=file, folder=folder, target=target) for each in words.split()]
        took, computed = _timed(_counting(program, counts))
        _tell(name, took, computed, count, _lines(counts))


def _call(words: list[str], counts: Path) -> None:
    subprocess.run(_counting(words, counts), check=True, timeout=60)


def _counting(words: list[str], counts: Path) -> list[str]:
    program = _COUNTING.format(root=str(ROOT), counts=str(counts))
    return [sys.executable, "-c", program, *words]


def _lines(counts: Path) -> list[str]:
    return counts.read_text().splitlines() if counts.exists() else []


def _timed(words: list[str]) -> tuple[float, float]:
    """Return how long a program took, and how long it and its children computed."""
    before, start = _seconds_of_children(), time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=3000)
    return time.monotonic() - start, _seconds_of_children() - before


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tell(name: str, took: float, computed: float, count: int, calls: list[str]) -> None:
    each = collections.Counter(calls)
    workers = each.pop("(worker)", 0)
    shown = ", ".join(f"{method} {number}" for method, number in each.most_common())
    print(
        f"{name}: {took:.2f} s, {1000 * took / count:.2f} ms each, "
        f"{1000 * computed / count:.2f} ms computing; {workers} workers; "
        f"{each.total()} calls: {shown}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
